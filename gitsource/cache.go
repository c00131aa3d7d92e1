package gitsource

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Cache keeps one snapshot on disk: the last good one, so that a restart while
// the remote is down still has something to compare with. What is good, the
// caller decides. One goroutine at a time may use it.
//
// Only one is kept: falling back to an older one would look like a revert.
type Cache struct {
	Dir string // made when needed
}

const (
	cacheName  = "last-good.snapshot"
	cacheMagic = "bellwether snapshot 1\n"
)

// ErrCache says that the file of a [Cache] is damaged, or of a version that we
// do not know.
var ErrCache = errors.New("the cached snapshot is damaged or of another version")

// Save replaces the snapshot on disk. It is there, whole, when Save returns; at
// any moment before, the old one is.
func (c Cache) Save(s fleet.Snapshot) error {
	if err := c.save(encodeSnapshot(s)); err != nil {
		return fmt.Errorf("saving the snapshot %s: %w", s.Revision.Short(), err)
	}
	return nil
}

func (c Cache) save(content []byte) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(c.Dir, cacheName+".*") // mode 0600: configs may hold secrets
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // a no-op once renamed
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(c.Dir, cacheName)); err != nil {
		return err
	}
	dir, err := os.Open(c.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Load returns the snapshot on disk. It is false without an error when there is
// none, and wraps [ErrCache] when what is there cannot be trusted.
func (c Cache) Load() (fleet.Snapshot, bool, error) {
	name := filepath.Join(c.Dir, cacheName)
	content, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fleet.Snapshot{}, false, nil
	}
	if err != nil {
		return fleet.Snapshot{}, false, fmt.Errorf("loading the cached snapshot: %w", err)
	}
	s, err := decodeSnapshot(content)
	if err != nil {
		return fleet.Snapshot{}, false, fmt.Errorf("loading %s: %w", name, err)
	}
	return s, true, nil
}

// The file is the magic line, then strings and numbers, then the SHA-256 of all
// before it. A string is its length as a uvarint and its bytes.
func encodeSnapshot(s fleet.Snapshot) []byte {
	b := []byte(cacheMagic)
	number := func(n uint64) { b = binary.AppendUvarint(b, n) }
	text := func(t string) { number(uint64(len(t))); b = append(b, t...) }
	r := s.Revision
	for _, t := range []string{r.ID, r.Branch, r.Author, r.Subject} {
		text(t)
	}
	when, err := r.Time.MarshalBinary()
	if err != nil {
		when, _ = r.Time.UTC().MarshalBinary() // a zone with odd seconds
	}
	text(string(when))
	text(s.Root)
	number(uint64(len(s.Files)))
	for _, f := range s.Files {
		number(uint64(f.Kind))
		text(f.Path)
		text(string(f.Body))
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func decodeSnapshot(content []byte) (fleet.Snapshot, error) {
	body, ok := bytes.CutPrefix(content, []byte(cacheMagic))
	if !ok || len(body) < sha256.Size {
		return fleet.Snapshot{}, ErrCache
	}
	end := len(content) - sha256.Size
	if sha256.Sum256(content[:end]) != [sha256.Size]byte(content[end:]) {
		return fleet.Snapshot{}, ErrCache
	}
	return decodeFields(body[:len(body)-sha256.Size])
}

func decodeFields(rest []byte) (fleet.Snapshot, error) {
	bad := false
	number := func() uint64 {
		n, used := binary.Uvarint(rest)
		if used <= 0 {
			bad, rest = true, nil
			return 0
		}
		rest = rest[used:]
		return n
	}
	bytesField := func() []byte {
		n := number()
		if n > uint64(len(rest)) {
			bad, rest = true, nil
			return nil
		}
		field := rest[:n:n]
		rest = rest[n:]
		return field
	}
	text := func() string { return string(bytesField()) }
	var s fleet.Snapshot
	s.Revision = fleet.Revision{ID: text(), Branch: text(), Author: text(), Subject: text()}
	var when time.Time
	if err := when.UnmarshalBinary(bytesField()); err != nil {
		return fleet.Snapshot{}, ErrCache
	}
	s.Revision.Time = when
	s.Root = text()
	for range number() {
		f := fleet.Source{Kind: fleet.Kind(number()), Path: text(), Body: bytesField()}
		if bad || f.Kind > fleet.Submodule {
			return fleet.Snapshot{}, ErrCache
		}
		s.Files = append(s.Files, f)
	}
	if bad || len(rest) > 0 {
		return fleet.Snapshot{}, ErrCache
	}
	return s, nil
}
