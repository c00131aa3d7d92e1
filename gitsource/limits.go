package gitsource

import (
	"fmt"
	"io"
	"time"
)

// Limits bound what a remote can make us do. The zero value of each field means
// the default named in its comment.
type Limits struct {
	Advertisement int64 // bytes of the list of references, and of the words before a pack: 16 MiB
	Pack          int64 // bytes of one pack: 256 MiB
	Objects       int   // objects in one pack: 500,000
	Object        int64 // bytes of one object, inflated; larger files are not even sent if the server can filter: 8 MiB
	Inflated      int64 // bytes of all objects of a pack, or all files of a snapshot: 512 MiB
	Files         int   // files below the path, and directories: 20,000 each
	Depth         int   // directories in each other: 32
	Path          int   // bytes of a file's path: 512

	Look  time.Duration // one question for the tip: 30 s
	Fetch time.Duration // one fetch, whole: 2 min
	Idle  time.Duration // silence on an SSH connection, and time to connect: 20 s
}

func (l *Limits) setDefaults() error {
	set(&l.Advertisement, 16<<20)
	set(&l.Pack, 256<<20)
	set(&l.Objects, 500_000)
	set(&l.Object, 8<<20)
	set(&l.Inflated, 512<<20)
	set(&l.Files, 20_000)
	set(&l.Depth, 32)
	set(&l.Path, 512)
	set(&l.Look, 30*time.Second)
	set(&l.Fetch, 2*time.Minute)
	set(&l.Idle, 20*time.Second)
	for _, n := range []int64{
		l.Advertisement, l.Pack, int64(l.Objects), l.Object, l.Inflated, int64(l.Files),
		int64(l.Depth), int64(l.Path), int64(l.Look), int64(l.Fetch), int64(l.Idle),
	} {
		if n < 0 {
			return fmt.Errorf("a limit is negative: %d", n)
		}
	}
	return nil
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// limited reads at most left bytes; one more is a [LimitExceeded].
type limited struct {
	r    io.Reader
	left int64
	what string
	max  int64
}

func newLimited(r io.Reader, what string, limit int64) *limited {
	return &limited{r: r, left: limit, what: what, max: limit}
}

// allow starts the count anew for another part of the stream.
func (l *limited) allow(what string, limit int64) { l.left, l.what, l.max = limit, what, limit }

func (l *limited) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fail(LimitExceeded, "%s is larger than the limit of %d bytes", l.what, l.max)
	}
	return n, err
}
