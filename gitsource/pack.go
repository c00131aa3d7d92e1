package gitsource

import (
	"bytes"
	"errors"
	"io"
	"os"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/storage/memory"
)

// spool keeps a pack until it has been checked: in memory if it is small, else
// in a file that has no name any more.
type spool struct {
	memory bytes.Buffer
	file   *os.File
}

const spoolMemory = 4 << 20

func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && s.memory.Len()+len(p) <= spoolMemory {
		return s.memory.Write(p)
	}
	if s.file == nil {
		f, err := os.CreateTemp("", "bellwether-pack-")
		if err != nil {
			return 0, fail(Internal, "keeping a large pack: %v", err)
		}
		s.file = f
		_ = os.Remove(f.Name()) // some systems keep open files; then it goes with Close
		if _, err := f.Write(s.memory.Bytes()); err != nil {
			return 0, fail(Internal, "keeping a large pack: %v", err)
		}
		s.memory = bytes.Buffer{}
	}
	return s.file.Write(p)
}

func (s *spool) reader() (io.ReadSeeker, error) {
	if s.file == nil {
		return bytes.NewReader(s.memory.Bytes()), nil
	}
	_, err := s.file.Seek(0, io.SeekStart)
	return s.file, err
}

func (s *spool) close() {
	if s.file != nil {
		name := s.file.Name()
		s.file.Close()
		_ = os.Remove(name)
	}
}

// storePack reads a pack into the store after it has seen all of it and found
// nothing over the limits: the parser itself would inflate whatever it is told to.
func storePack(store *memory.Storage, r io.Reader, l Limits) error {
	var s spool
	defer s.close()
	if err := scanPack(io.TeeReader(r, &s), l); err != nil {
		return packError(err)
	}
	pack, err := s.reader()
	if err != nil {
		return fail(Internal, "reading a kept pack: %v", err)
	}
	return packError(packfile.UpdateObjectStorage(store, pack))
}

func packError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fail(Unreachable, "the pack broke off: %v", err)
	}
	if errors.Is(err, packfile.ErrReferenceDeltaNotFound) || errors.Is(err, plumbing.ErrObjectNotFound) {
		return fail(Corrupt, "the pack builds on an object that we do not have")
	}
	return err
}

// scanPack inflates every object once, into nothing, and adds up the sizes that
// they have or, for deltas, will have.
func scanPack(r io.Reader, l Limits) error {
	s := packfile.NewScanner(r)
	_, objects, err := s.Header()
	if err != nil {
		if errors.Is(err, packfile.ErrEmptyPackfile) {
			return fail(Unreachable, "the server sent no pack")
		}
		return err
	}
	if int64(objects) > int64(l.Objects) {
		return fail(LimitExceeded, "the pack has %d objects: the limit is %d", objects, l.Objects)
	}
	var total int64
	for range objects {
		h, err := s.NextObjectHeader()
		if err != nil {
			return err
		}
		size, isDelta := h.Length, h.Type.IsDelta()
		if err := l.checkObject(size); err != nil {
			return err
		}
		var head deltaHead
		n, _, err := s.NextObject(&head)
		if err != nil {
			return err
		}
		if n != h.Length {
			return fail(Corrupt, "an object of the pack has %d bytes instead of %d", n, h.Length)
		}
		if isDelta {
			var ok bool
			if size, ok = head.target(); !ok {
				return fail(Corrupt, "a delta of the pack has no size")
			}
			if err := l.checkObject(size); err != nil {
				return err
			}
		}
		if total += size + n; total > l.Inflated {
			return fail(LimitExceeded, "the pack inflates to more than the limit of %d bytes", l.Inflated)
		}
	}
	if _, err := s.Checksum(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return err
}

func (l Limits) checkObject(size int64) error {
	if size < 0 || size > l.Object {
		return fail(LimitExceeded, "an object of the pack has %d bytes: the limit is %d", size, l.Object)
	}
	return nil
}

// deltaHead keeps the first bytes of a delta, which are two numbers: the size of
// the base and the size of the result.
type deltaHead struct {
	b [20]byte
	n int
}

func (d *deltaHead) Write(p []byte) (int, error) {
	d.n += copy(d.b[d.n:], p)
	return len(p), nil
}

func (d *deltaHead) target() (int64, bool) {
	rest := d.b[:d.n]
	_, rest, ok := deltaSize(rest)
	if !ok {
		return 0, false
	}
	size, _, ok := deltaSize(rest)
	return size, ok
}

func deltaSize(b []byte) (int64, []byte, bool) {
	var size int64
	for i, c := range b {
		if i > 8 {
			break
		}
		size |= int64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return size, b[i+1:], size >= 0
		}
	}
	return 0, nil, false
}
