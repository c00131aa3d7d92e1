package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// A checkpoint is all records in one file, for the day on which the engine's own
// files are damaged: magic, then for each rollout its header and its ledger, each
// behind its length, then the time of watching, and a CRC-32C of it all.
const (
	checkpointMagic  = "bellwether checkpoint 1\n"
	checkpointSuffix = ".checkpoint"
)

// keep has the records checkpointed soon. Of several the newest is.
func (s *Store) keep(m *mirror) {
	select {
	case <-s.toKeep:
	default:
	}
	select {
	case s.toKeep <- m:
	default: // somebody else was quicker, with something as new
	}
}

// checkpoints writes what keep left, until the store is closed.
func (s *Store) checkpoints() {
	for {
		select {
		case m := <-s.toKeep:
			s.checkpoint(m)
		case <-s.done.Done():
			select {
			case m := <-s.toKeep:
				s.checkpoint(m)
			default:
			}
			return
		}
	}
}

func (s *Store) checkpoint(m *mirror) {
	var err error
	defer s.metrics.done("checkpoint", time.Now(), &err)
	if err = s.writeCheckpoint(m); err != nil {
		s.log.Warn("checkpoint not written", "err", err)
	}
}

func (s *Store) writeCheckpoint(m *mirror) error {
	dir := filepath.Join(s.cfg.Dir, checkpointName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	body, err := packCheckpoint(m.state())
	if err != nil {
		return err
	}
	// The sequence never goes back, so names sort by age.
	if err := writeFile(filepath.Join(dir, fmt.Sprintf("%020d%s", m.revision, checkpointSuffix)), body); err != nil {
		return err
	}
	files, err := s.Checkpoints()
	if err != nil {
		return err
	}
	for _, old := range files[:max(0, len(files)-s.cfg.Checkpoints)] {
		err = errors.Join(err, os.Remove(old))
	}
	return err
}

// Checkpoints returns the files that [ReadCheckpoint] reads, oldest first.
func (s *Store) Checkpoints() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(s.cfg.Dir, checkpointName, "*"+checkpointSuffix))
	slices.Sort(files)
	return files, err
}

func packCheckpoint(state reconciler.State) ([]byte, error) {
	b := []byte(checkpointMagic)
	b = binary.AppendUvarint(b, uint64(len(state.Rollouts)))
	for _, r := range state.Rollouts {
		header, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		b = appendPart(b, header)
		var entries []byte
		for e := range r.Ledger.All() {
			entries = rollout.AppendEntry(entries, *e)
		}
		b = appendPart(b, entries)
	}
	b = binary.AppendVarint(b, state.Watched.UnixMilli())
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli())), nil
}

// ReadCheckpoint returns the records that a checkpoint holds. One that is damaged
// is [ErrCorrupt].
func ReadCheckpoint(file string) (state reconciler.State, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return state, err
	}
	damaged := fmt.Errorf("%w: %s is no whole checkpoint", ErrCorrupt, file)
	end := len(b) - crc32.Size
	if end < len(checkpointMagic) || string(b[:len(checkpointMagic)]) != checkpointMagic ||
		binary.BigEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli()) {
		return state, damaged
	}
	b = b[len(checkpointMagic):end]
	n, size := binary.Uvarint(b)
	b = b[max(size, 0):]
	for range n {
		header, rest, okHeader := cutPart(b)
		packed, rest, okLedger := cutPart(rest)
		var r rollout.State
		if !okHeader || !okLedger || json.Unmarshal(header, &r) != nil {
			return reconciler.State{}, damaged
		}
		entries, err := unpackEntries(packed)
		if err != nil {
			return reconciler.State{}, fmt.Errorf("%w: %v", damaged, err)
		}
		r.Ledger = rollout.LedgerOf(entries)
		state.Rollouts, b = append(state.Rollouts, r), rest
	}
	if ms, _ := binary.Varint(b); ms != (time.Time{}).UnixMilli() {
		state.Watched = time.UnixMilli(ms).UTC()
	}
	return state, nil
}

func unpackEntries(b []byte) (entries []rollout.Entry, err error) {
	for len(b) > 0 {
		var e rollout.Entry
		if e, b, err = rollout.DecodeEntry(b); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}
