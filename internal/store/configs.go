package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/nats-io/nats.go/jetstream"
)

// A config lies under cfg.<hash>.<n> in parts; part 0 is written last and begins
// with the number of parts, so that a config whose part 0 is there is whole.

// ErrNoConfig says that the store has no such config.
var ErrNoConfig = errors.New("no such config")

func configSubject(h fleet.Hash, part int) string { return fmt.Sprintf("cfg.%x.%d", h[:], part) }

// PutConfig keeps a config under its hash, durable on return. It costs nothing if
// the store has it already; a damaged copy is replaced.
func (s *Store) PutConfig(ctx context.Context, c fleet.Config) (err error) {
	defer s.metrics.done("put_config", time.Now(), &err)
	if fleet.NewConfig(c.Files...).Hash != c.Hash {
		return fmt.Errorf("keep config %s: its hash is not that of its files", c.Hash.Short())
	}
	if s.isKnown(c.Hash) {
		return nil
	}
	if _, err := s.readConfig(ctx, c.Hash); err == nil {
		s.setKnown(c.Hash)
		return nil
	} else if !errors.Is(err, ErrNoConfig) && !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("keep config %s: %w", c.Hash.Short(), err)
	}
	parts := slices.Collect(slices.Chunk(packConfig(c), chunkBytes))
	for i := range slices.Backward(parts) {
		body := parts[i]
		if i == 0 {
			body = append(binary.AppendUvarint(nil, uint64(len(parts))), body...)
		}
		if _, err := s.engine.request(ctx, newMessage(configSubject(c.Hash, i), body), nil); err != nil {
			return fmt.Errorf("keep config %s: %w", c.Hash.Short(), err)
		}
	}
	s.setKnown(c.Hash)
	return nil
}

// Config returns a config that was kept. One that is not there is [ErrNoConfig];
// one that does not have its hash is [ErrCorrupt].
func (s *Store) Config(ctx context.Context, h fleet.Hash) (_ fleet.Config, err error) {
	defer s.metrics.done("get_config", time.Now(), &err)
	c, err := s.readConfig(ctx, h)
	if err != nil {
		return c, fmt.Errorf("config %s: %w", h.Short(), err)
	}
	return c, nil
}

func (s *Store) readConfig(ctx context.Context, h fleet.Hash) (fleet.Config, error) {
	first, err := s.readPart(ctx, h, 0)
	if err != nil {
		return fleet.Config{}, err
	}
	parts, size := binary.Uvarint(first)
	if size <= 0 {
		return fleet.Config{}, fmt.Errorf("%w: a config without parts", ErrCorrupt)
	}
	packed := slices.Clone(first[size:])
	for i := 1; i < int(parts); i++ {
		part, err := s.readPart(ctx, h, i)
		if errors.Is(err, ErrNoConfig) {
			return fleet.Config{}, fmt.Errorf("%w: part %d of a config is missing", ErrCorrupt, i)
		}
		if err != nil {
			return fleet.Config{}, err
		}
		packed = append(packed, part...)
	}
	files, ok := unpackConfig(packed)
	if c := fleet.NewConfig(files...); ok && c.Hash == h {
		return c, nil
	}
	return fleet.Config{}, fmt.Errorf("%w: a config does not have its hash", ErrCorrupt)
}

func (s *Store) readPart(ctx context.Context, h fleet.Hash, part int) ([]byte, error) {
	subject := configSubject(h, part)
	m, err := s.engine.configs.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, ErrNoConfig
	}
	if err != nil {
		return nil, err
	}
	return unseal(subject, m.Data)
}

// PruneConfigs forgets every config that is not in keep. The caller must not keep
// one at the same time.
func (s *Store) PruneConfigs(ctx context.Context, keep map[fleet.Hash]bool) (err error) {
	defer s.metrics.done("prune_configs", time.Now(), &err)
	info, err := s.engine.configs.Info(ctx, jetstream.WithSubjectFilter("cfg.*.0"))
	if err != nil {
		return fmt.Errorf("prune configs: %w", err)
	}
	for subject := range info.State.Subjects {
		h, err := fleet.ParseHash(strings.Split(subject, ".")[1])
		if err != nil || keep[h] {
			continue
		}
		s.forget(h)
		if err := s.engine.configs.Purge(ctx, jetstream.WithPurgeSubject(fmt.Sprintf("cfg.%x.>", h[:]))); err != nil {
			return fmt.Errorf("prune config %s: %w", h.Short(), err)
		}
	}
	return nil
}

func (s *Store) isKnown(h fleet.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[h]
}

func (s *Store) setKnown(h fleet.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[h] = true
}

func (s *Store) forget(h fleet.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, h)
}

// packConfig writes the files one after the other, every part of each behind its
// length.
func packConfig(c fleet.Config) []byte {
	b := make([]byte, 0, c.Size()+256*len(c.Files))
	for _, f := range c.Files {
		b = appendPart(b, []byte(f.Name))
		b = appendPart(b, []byte(f.ContentType))
		b = appendPart(b, f.Body)
	}
	if len(b) == 0 {
		b = append(b, 0) // an empty config has a part, too
	}
	return b
}

func appendPart(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// cutPart returns the first part of what [appendPart] wrote, and the rest.
func cutPart(b []byte) (part, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	return b[size : size+int(n)], b[size+int(n):], true
}

func unpackConfig(b []byte) (files []fleet.File, ok bool) {
	if len(b) == 1 {
		return nil, b[0] == 0
	}
	for len(b) > 0 {
		var part [3][]byte
		for i := range part {
			if part[i], b, ok = cutPart(b); !ok {
				return nil, false
			}
		}
		files = append(files, fleet.File{Name: string(part[0]), ContentType: string(part[1]), Body: part[2]})
	}
	return files, true
}
