package gitsource

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// plain reads a directory that belongs to no repository. Its revisions are named
// after their content.
type plain struct {
	id    string // "dir:<sha256>"; "" before the first good read
	seen  time.Time
	files []fleet.Source
	dirs  []string // what was read, for the watcher
}

const (
	steadyPause = 100 * time.Millisecond // between two readings that must agree
	steadyTries = 20
)

// read returns the id of the content. New content is believed when two readings
// with a pause between them agree, so that a half-written file is not.
func (p *plain) read(ctx context.Context, dir, scope string, limits Limits) (string, error) {
	last := ""
	for range steadyTries {
		r := dirReader{base: dir, limits: limits}
		err := r.readAll(scope)
		p.dirs = r.dirs
		switch {
		case errors.Is(err, errVanished):
			last = ""
		case err != nil:
			return "", err
		default:
			id := contentID(r.files)
			if id == p.id {
				return id, nil
			}
			if id == last {
				p.id, p.files, p.seen = id, r.files, time.Now()
				return id, nil
			}
			last = id
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(steadyPause):
		}
	}
	return "", fail(Unreachable, "the directory did not stop changing")
}

func (p *plain) snapshot(scope string) fleet.Snapshot {
	return fleet.Snapshot{
		Revision: fleet.Revision{ID: p.id, Time: p.seen, Subject: "directory changed"},
		Root:     scope, Files: p.files,
	}
}

// contentID hashes the files, sorted by path: kind, path and body, the last two
// preceded by their lengths.
func contentID(files []fleet.Source) string {
	sum := sha256.New()
	var size [8]byte
	for _, f := range files {
		sum.Write([]byte{byte(f.Kind)})
		binary.BigEndian.PutUint64(size[:], uint64(len(f.Path)))
		sum.Write(size[:])
		sum.Write([]byte(f.Path))
		binary.BigEndian.PutUint64(size[:], uint64(len(f.Body)))
		sum.Write(size[:])
		sum.Write(f.Body)
	}
	return fmt.Sprintf("dir:%x", sum.Sum(nil))
}

// dirReader reads a directory once, never leaving it.
type dirReader struct {
	base   string
	root   *os.Root
	limits Limits

	files   []fleet.Source
	dirs    []string
	visited int
	size    int64
}

// errVanished says that something was there and then was not: read again.
var errVanished = errors.New("the directory changes")

func (r *dirReader) readAll(scope string) error {
	root, err := os.OpenRoot(r.base)
	if err != nil {
		return fail(RepositoryMissing, "the path cannot be opened: %w", err)
	}
	defer root.Close()
	r.root = root
	r.dirs = append(r.dirs, r.base)
	info, err := root.Stat(scope)
	if err != nil || !info.IsDir() {
		return fail(PathMissing, "there is no directory %q in %s", scope, r.base)
	}
	if scope == "." {
		err = r.dir("", 0)
	} else {
		err = r.dir(scope, 0)
	}
	if err != nil {
		return err
	}
	if len(r.files) == 0 {
		return fail(Empty, "there are no files in %s", filepath.Join(r.base, scope))
	}
	slices.SortFunc(r.files, func(a, b fleet.Source) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

func (r *dirReader) dir(dir string, depth int) error {
	if depth > r.limits.Depth {
		return fail(LimitExceeded, "directories are nested more than %d deep: %s", r.limits.Depth, printable(dir, 100))
	}
	if r.visited++; r.visited > r.limits.Files {
		return fail(LimitExceeded, "there are more than %d directories", r.limits.Files)
	}
	if dir != "" {
		r.dirs = append(r.dirs, filepath.Join(r.base, filepath.FromSlash(dir)))
	}
	f, err := r.root.Open(orDot(dir))
	if err != nil {
		return unreadable(dir, err)
	}
	entries, err := f.ReadDir(2*r.limits.Files + 2)
	f.Close()
	if err != nil && !errors.Is(err, io.EOF) {
		return unreadable(dir, err)
	}
	if len(entries) > 2*r.limits.Files {
		return fail(LimitExceeded, "there are more than %d files", r.limits.Files)
	}
	for _, e := range entries {
		// "..data" and its kind are how Kubernetes swaps a whole volume at once; what
		// they hold is reached through the links beside them.
		if strings.HasPrefix(e.Name(), "..") || strings.EqualFold(e.Name(), ".git") {
			continue
		}
		if !validName(e.Name()) {
			return fail(InvalidTree, "the directory %q has an entry with the name %q", dir, printable(e.Name(), 100))
		}
		if err := r.entry(join(dir, e.Name()), e.Type(), depth); err != nil {
			return err
		}
	}
	return nil
}

func (r *dirReader) entry(path string, mode fs.FileMode, depth int) error {
	if len(path) > r.limits.Path {
		return fail(LimitExceeded, "a path has more than %d bytes: %s...", r.limits.Path, printable(path, 100))
	}
	if mode&fs.ModeSymlink != 0 {
		target, err := r.root.Readlink(path)
		if err != nil {
			return unreadable(path, err)
		}
		if !swappedVolume(target) {
			return r.add(fleet.Source{Path: path, Kind: fleet.Symlink, Body: []byte(target)})
		}
		info, err := r.root.Stat(path)
		if err != nil {
			return unreadable(path, err)
		}
		mode = info.Mode()
	}
	switch {
	case mode.IsDir():
		return r.dir(path, depth+1)
	case mode.IsRegular():
		body, err := r.read(path)
		if err != nil {
			return err
		}
		return r.add(fleet.Source{Path: path, Kind: fleet.Regular, Body: body})
	}
	return nil // pipes, sockets and devices hold nothing to read
}

// swappedVolume reports whether a link leads through a name like "..data" beside
// it. Any other link is handed on as a link.
func swappedVolume(target string) bool {
	first, _, _ := strings.Cut(target, "/")
	return strings.HasPrefix(first, "..") && first != ".."
}

func (r *dirReader) add(f fleet.Source) error {
	if len(r.files) >= r.limits.Files {
		return fail(LimitExceeded, "there are more than %d files", r.limits.Files)
	}
	if r.size += int64(len(f.Body)); r.size > r.limits.Inflated {
		return fail(LimitExceeded, "the files have more than %d bytes", r.limits.Inflated)
	}
	r.files = append(r.files, f)
	return nil
}

func (r *dirReader) read(path string) ([]byte, error) {
	f, err := r.root.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, r.limits.Object+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	if int64(len(body)) > r.limits.Object {
		return nil, fail(LimitExceeded, "%s has more than %d bytes", printable(path, 200), r.limits.Object)
	}
	return body, nil
}

// unreadable never lets a file that cannot be read look like one that is gone.
func unreadable(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errVanished
	}
	return fail(Corrupt, "%q cannot be read: %v", path, err)
}

func orDot(dir string) string {
	if dir == "" {
		return "."
	}
	return dir
}
