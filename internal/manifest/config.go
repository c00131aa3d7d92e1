package manifest

import (
	"bytes"
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/otelconf"
)

// loaded is a config file, parsed once however many Rollouts name it.
type loaded struct {
	doc *otelconf.Doc // nil: with errors
}

func (p *parser) load(f *fleet.Source) *loaded {
	if l := p.configs[f.Path]; l != nil {
		return l
	}
	l := &loaded{}
	p.configs[f.Path] = l
	if bytes.HasPrefix(f.Body, []byte(lfsPointer)) {
		p.add(f.Path, 1, 1, "lfs", "a Git LFS pointer instead of the config: keep configs out of LFS")
		return l
	}
	doc, problems := otelconf.Parse(f.Path, f.Body, p.opts.Limits.File)
	p.problems = append(p.problems, problems...)
	l.doc = doc
	return l
}

// render merges and checks. It returns nil if any of it has errors.
func (p *parser) render(files []*loaded) *fleet.Config {
	docs := make([]*otelconf.Doc, len(files))
	for i, f := range files {
		if f.doc == nil {
			return nil
		}
		docs[i] = f.doc
	}
	merged, problems := otelconf.Merge(docs, p.opts.Limits.File)
	p.problems = append(p.problems, problems...)
	if merged == nil {
		return nil
	}
	found := otelconf.Check(merged)
	p.problems = append(p.problems, found...)
	if otelconf.Failed(found) {
		return nil
	}
	config := newConfig(merged.Body)
	return &config
}

func (p *parser) nearSelector(name string) string {
	const many = 200
	known := slices.Sorted(maps.Keys(p.selectors))
	return otelconf.DidYouMean(name, known[:min(many, len(known))]...)
}

// tree finds files by path, through symlinks.
type tree struct {
	root  string // --git-path, "" for the whole repository
	files map[string]*fleet.Source
	dirs  map[string]bool
}

// pathError says why a path leads to no file.
type pathError struct {
	message string
	leaves  bool // it leads out of what is read
}

func newTree(snap fleet.Snapshot) *tree {
	t := &tree{root: path.Clean(snap.Root), files: make(map[string]*fleet.Source, len(snap.Files)), dirs: map[string]bool{}}
	if t.root == "." || t.root == "/" {
		t.root = ""
	}
	for i := range snap.Files {
		f := &snap.Files[i]
		t.files[f.Path] = f
		for dir := path.Dir(f.Path); dir != "." && !t.dirs[dir]; dir = path.Dir(dir) {
			t.dirs[dir] = true
		}
	}
	return t
}

// find looks a path of a manifest up, which is relative to --git-path.
func (t *tree) find(written string) (*fleet.Source, *pathError) {
	switch {
	case written == "":
		return nil, &pathError{message: "the path is empty"}
	case strings.Contains(written, "\\"):
		return nil, &pathError{message: "paths have forward slashes: " + short(written)}
	case path.IsAbs(written):
		return nil, &pathError{message: "the path " + short(written) + " is absolute: paths are relative to --git-path", leaves: true}
	}
	return t.resolve(path.Join("/", t.root) + "/" + written)
}

// resolve walks a path of the repository component by component, so that .. after
// a symlink means what it means to a file system, and follows symlinks.
func (t *tree) resolve(at string) (*fleet.Source, *pathError) {
	const mostLinks = 40
	rest := strings.Split(at, "/")
	done, links := "", 0
	what := "the path " + short(strings.TrimLeft(at, "/"))
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if done == "" {
				return nil, &pathError{message: what + " leaves the repository", leaves: true}
			}
			if done = path.Dir(done); done == "." {
				done = ""
			}
			continue
		}
		done = path.Join(done, part)
		f := t.files[done]
		switch {
		case t.outside(done):
			return nil, &pathError{message: what + " leads to " + short(done) + ", which is not below --git-path and not read", leaves: true}
		case f == nil && !t.dirs[done]:
			return nil, &pathError{message: "there is no file " + short(strings.TrimSuffix(done+"/"+strings.Join(rest, "/"), "/"))}
		case f == nil:
		case f.Kind == fleet.Submodule:
			return nil, &pathError{message: short(done) + " is a submodule, and what is in it is not read"}
		case f.Kind == fleet.Symlink:
			target := string(f.Body)
			if links++; links > mostLinks {
				return nil, &pathError{message: "the symlink " + short(done) + " leads to itself"}
			}
			what = "the symlink " + short(done)
			if path.IsAbs(target) {
				return nil, &pathError{message: what + " leaves the repository", leaves: true}
			}
			if done = path.Dir(done); done == "." {
				done = ""
			}
			rest = append(strings.Split(target, "/"), rest...)
		case len(rest) > 0:
			return nil, &pathError{message: short(done) + " is a file, not a directory"}
		}
	}
	if f := t.files[done]; f != nil {
		return f, nil
	}
	return nil, &pathError{message: short(cmp.Or(done, ".")) + " is a directory, not a file"}
}

// outside reports whether a path of the repository is neither below --git-path
// nor on the way to it.
func (t *tree) outside(at string) bool {
	return t.root != "" && at != t.root && !strings.HasPrefix(at, t.root+"/") && !strings.HasPrefix(t.root+"/", at+"/")
}
