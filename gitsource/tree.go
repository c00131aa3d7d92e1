package gitsource

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// walker reads the files of one commit. An object that cannot be read is an
// error: go-git's own walkers take it for the end of the tree.
type walker struct {
	store    storer.EncodedObjectStorer
	limits   Limits
	filtered bool     // the server left out large files
	known    contents // of the snapshot before

	read    contents // of this one
	files   []fleet.Source
	visited int // directories
	size    int64
}

// contents are objects that were read and checked, by the hash of what is in
// them: what has not changed is not read again. Nobody changes them.
type contents struct {
	bodies map[plumbing.Hash][]byte
	trees  map[plumbing.Hash][]entry
}

// snapshot reads commit and everything below root.
func (w *walker) snapshot(commit plumbing.Hash, branch, root string) (fleet.Snapshot, error) {
	raw, err := w.object(plumbing.CommitObject, commit, "the commit")
	if err != nil {
		return fleet.Snapshot{}, err
	}
	var encoded plumbing.MemoryObject
	encoded.SetType(plumbing.CommitObject)
	if _, err := encoded.Write(raw); err != nil {
		return fleet.Snapshot{}, err
	}
	c, err := object.DecodeCommit(w.store, &encoded)
	if err != nil {
		return fleet.Snapshot{}, fail(Corrupt, "the commit %s cannot be read: %v", commit, err)
	}
	subject, _, _ := strings.Cut(strings.TrimLeft(c.Message, "\n"), "\n")
	s := fleet.Snapshot{Root: root, Revision: fleet.Revision{
		ID: commit.String(), Branch: branch, Time: c.Committer.When,
		Author: printable(c.Author.Name, 100), Subject: printable(subject, 200),
	}}
	w.read = contents{bodies: make(map[plumbing.Hash][]byte), trees: make(map[plumbing.Hash][]entry)}
	if err := w.enter(c.TreeHash, root); err != nil {
		return fleet.Snapshot{}, err
	}
	if len(w.files) == 0 {
		return fleet.Snapshot{}, fail(Empty, "revision %s has no files below %q", s.Revision.Short(), root)
	}
	slices.SortFunc(w.files, func(a, b fleet.Source) int { return strings.Compare(a.Path, b.Path) })
	s.Files = w.files
	return s, nil
}

// enter goes down to root, then walks.
func (w *walker) enter(tree plumbing.Hash, root string) error {
	if root == "." {
		return w.walk(tree, "", 0)
	}
	dir := ""
	for name := range strings.SplitSeq(root, "/") {
		entries, err := w.tree(tree, dir)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(entries, func(e entry) bool { return e.name == name })
		if i < 0 || entries[i].kind != directory {
			return fail(PathMissing, "the revision has no directory %q", root)
		}
		tree, dir = entries[i].hash, join(dir, name)
	}
	return w.walk(tree, dir, 0)
}

func (w *walker) walk(tree plumbing.Hash, dir string, depth int) error {
	if depth > w.limits.Depth {
		return fail(LimitExceeded, "directories are nested more than %d deep: %s", w.limits.Depth, printable(dir, 100))
	}
	if w.visited++; w.visited > w.limits.Files {
		return fail(LimitExceeded, "the revision has more than %d directories", w.limits.Files)
	}
	entries, err := w.tree(tree, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := join(dir, e.name)
		if len(path) > w.limits.Path {
			return fail(LimitExceeded, "a path has more than %d bytes: %s...", w.limits.Path, printable(path, 100))
		}
		if e.kind == directory {
			err = w.walk(e.hash, path, depth+1)
		} else {
			err = w.file(e, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) file(e entry, path string) error {
	if len(w.files) >= w.limits.Files {
		return fail(LimitExceeded, "the revision has more than %d files", w.limits.Files)
	}
	f := fleet.Source{Path: path, Kind: e.kind.source()}
	if e.kind != submodule {
		body, err := w.body(e.hash, path)
		if err != nil {
			return err
		}
		if w.size += int64(len(body)); w.size > w.limits.Inflated {
			return fail(LimitExceeded, "the files have more than %d bytes", w.limits.Inflated)
		}
		f.Body = body
	}
	w.files = append(w.files, f)
	return nil
}

func (w *walker) body(hash plumbing.Hash, path string) ([]byte, error) {
	body, ok := w.read.bodies[hash]
	if !ok {
		body, ok = w.known.bodies[hash]
	}
	if !ok {
		var err error
		if body, err = w.object(plumbing.BlobObject, hash, path); err != nil {
			return nil, err
		}
	}
	w.read.bodies[hash] = body
	return body, nil
}

func (w *walker) tree(hash plumbing.Hash, dir string) ([]entry, error) {
	entries, ok := w.read.trees[hash]
	if !ok {
		entries, ok = w.known.trees[hash]
	}
	if !ok {
		raw, err := w.object(plumbing.TreeObject, hash, "the directory "+dir)
		if err != nil {
			return nil, err
		}
		if entries, err = parseTree(raw, dir); err != nil {
			return nil, err
		}
	}
	w.read.trees[hash] = entries
	return entries, nil
}

// object returns one whose content has the hash that names it: a repository
// on disk can hold anything.
func (w *walker) object(kind plumbing.ObjectType, hash plumbing.Hash, what string) ([]byte, error) {
	size, err := w.store.EncodedObjectSize(hash)
	if err != nil {
		return nil, w.missing(kind, hash, what, err)
	}
	if size > w.limits.Object {
		return nil, fail(LimitExceeded, "%s has %d bytes: the limit is %d", printable(what, 200), size, w.limits.Object)
	}
	o, err := w.store.EncodedObject(kind, hash)
	if err != nil {
		return nil, w.missing(kind, hash, what, err)
	}
	r, err := o.Reader()
	if err != nil {
		return nil, fail(Corrupt, "%s (object %s) cannot be read: %v", printable(what, 200), hash, err)
	}
	defer r.Close()
	body := bytes.NewBuffer(make([]byte, 0, size+1))
	if _, err := body.ReadFrom(io.LimitReader(r, w.limits.Object+1)); err != nil {
		return nil, fail(Corrupt, "%s (object %s) cannot be read: %v", printable(what, 200), hash, err)
	}
	sum := sha1.New()
	fmt.Fprintf(sum, "%s %d\x00", kind, body.Len())
	sum.Write(body.Bytes())
	if plumbing.Hash(sum.Sum(nil)) != hash {
		return nil, fail(Corrupt, "%s is not the object %s that it should be", printable(what, 200), hash)
	}
	return slices.Clip(body.Bytes()), nil
}

func (w *walker) missing(kind plumbing.ObjectType, hash plumbing.Hash, what string, err error) error {
	what = printable(what, 200)
	if !errors.Is(err, plumbing.ErrObjectNotFound) {
		return fail(Corrupt, "%s (object %s) cannot be read: %v", what, hash, err)
	}
	if w.filtered && kind == plumbing.BlobObject {
		return fail(LimitExceeded, "%s was left out by the server: it has more than %d bytes", what, w.limits.Object)
	}
	return fail(Corrupt, "%s (object %s) is missing", what, hash)
}

type entryKind uint8

const (
	regular entryKind = iota
	symlink
	submodule
	directory
)

func (k entryKind) source() fleet.Kind {
	switch k {
	case symlink:
		return fleet.Symlink
	case submodule:
		return fleet.Submodule
	}
	return fleet.Regular
}

type entry struct {
	name string
	kind entryKind
	hash plumbing.Hash
}

// parseTree reads a tree object and refuses what git would not write: names that
// are no names, the same name twice, entries of an unknown kind.
func parseTree(raw []byte, dir string) ([]entry, error) {
	var entries []entry
	seen := make(map[string]struct{})
	for len(raw) > 0 {
		mode, rest, ok := bytes.Cut(raw, []byte{' '})
		name, rest, named := bytes.Cut(rest, []byte{0})
		var e entry
		if !ok || !named || len(rest) < len(e.hash) {
			return nil, fail(InvalidTree, "the directory %q is malformed", dir)
		}
		e.name = string(name)
		copy(e.hash[:], rest)
		raw = rest[len(e.hash):]
		if e.kind, ok = kindOf(string(mode)); !ok {
			return nil, fail(InvalidTree, "%q has the unknown mode %q", join(dir, e.name), printable(string(mode), 20))
		}
		if !validName(e.name) {
			return nil, fail(InvalidTree, "the directory %q has an entry with the name %q", dir, printable(e.name, 100))
		}
		if _, twice := seen[e.name]; twice {
			return nil, fail(InvalidTree, "the directory %q has two entries with the name %q", dir, e.name)
		}
		seen[e.name] = struct{}{}
		entries = append(entries, e)
	}
	return entries, nil
}

func kindOf(mode string) (entryKind, bool) {
	switch mode {
	case "40000", "040000":
		return directory, true
	case "120000":
		return symlink, true
	case "160000":
		return submodule, true
	}
	return regular, len(mode) == 6 && strings.HasPrefix(mode, "100")
}

func validName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.EqualFold(name, ".git") &&
		utf8.ValidString(name) && !strings.ContainsRune(name, '/') && !strings.ContainsFunc(name, unicode.IsControl)
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
