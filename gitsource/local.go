package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// local follows a path on this machine: a repository, read where it lies and
// never written, or a plain directory. Which of the two it is, and where links
// lead, is found out anew at every look.
type local struct {
	cfg  *Config
	path string // absolute

	repository string // the git directory of the last look; "" for a plain directory
	known      contents
	plain      plain
	watch      []string
}

func newLocal(cfg *Config, path string) (*local, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("opening the git path: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("the git path %s is not a directory", path)
	}
	return &local{cfg: cfg, path: path}, nil
}

func (l *local) close()            {}
func (l *local) watched() []string { return l.watch }

func (l *local) tip(ctx context.Context) (string, error) {
	l.watch = []string{filepath.Dir(l.path)}
	resolved, err := filepath.EvalSymlinks(l.path)
	if err != nil {
		return "", fail(RepositoryMissing, "the path cannot be opened: %w", err)
	}
	if resolved == l.path {
		l.watch = l.watch[:0] // no link that could be swapped
	}
	if l.repository, err = findRepository(l.path, resolved); err != nil {
		return "", err
	}
	if l.repository == "" {
		id, err := l.plain.read(ctx, resolved, l.cfg.Path, l.cfg.Limits)
		l.watch = append(l.watch, l.plain.dirs...)
		return id, err
	}
	l.watch = append(l.watch, branchDirs(l.repository, l.cfg.Branch)...)
	store, err := openRepository(l.repository)
	if err != nil {
		return "", err
	}
	defer store.Close()
	hash, err := localTip(store, l.cfg.Branch)
	return hash.String(), err
}

func (l *local) fetch(context.Context) (fleet.Snapshot, error) {
	if l.repository == "" {
		return l.plain.snapshot(l.cfg.Path), nil
	}
	s, err := l.load()
	if err != nil && classify(err).reason == Corrupt {
		s, err = l.load() // a garbage collection may have moved what we were reading
	}
	return s, err
}

func (l *local) load() (fleet.Snapshot, error) {
	store, err := openRepository(l.repository)
	if err != nil {
		return fleet.Snapshot{}, err
	}
	defer store.Close()
	hash, err := localTip(store, l.cfg.Branch)
	if err != nil {
		return fleet.Snapshot{}, err
	}
	w := walker{store: store, limits: l.cfg.Limits, known: l.known}
	s, err := w.snapshot(hash, l.cfg.Branch, l.cfg.Path)
	if err == nil {
		l.known = w.read
	}
	return s, err
}

// findRepository returns the git directory that holds the references and objects
// of the repository at path, or "" if it is a plain directory. A linked worktree
// without a branch, reached through a link, is what git-sync makes: there the
// files are the truth, and the link is swapped for another.
func findRepository(path, resolved string) (string, error) {
	dotGit := filepath.Join(resolved, ".git")
	info, err := os.Stat(dotGit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if isRepository(resolved) {
			return resolved, nil
		}
		return "", nil
	case err != nil:
		return "", fail(RepositoryMissing, "the path cannot be opened: %w", err)
	case info.IsDir():
		if isRepository(dotGit) {
			return dotGit, nil
		}
		return "", nil
	}
	text, err := readFile(".git file", dotGit)
	if err != nil {
		return "", fail(RepositoryMissing, "%w", err)
	}
	swapped := path != resolved
	gitDir, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir: ")
	if !ok {
		return "", fail(Unsupported, "%s is not a .git file", dotGit)
	}
	if !filepath.IsAbs(gitDir) {
		gitDir = filepath.Join(resolved, gitDir)
	}
	head, err := readFile("HEAD", filepath.Join(gitDir, "HEAD"))
	if swapped && (err != nil || !strings.HasPrefix(string(head), "ref: ")) {
		return "", nil
	}
	if err != nil {
		return "", fail(RepositoryMissing, "%s names no repository: %w", dotGit, err)
	}
	return commonDir(gitDir)
}

func commonDir(gitDir string) (string, error) {
	common, err := readFile("commondir", filepath.Join(gitDir, "commondir"))
	if errors.Is(err, fs.ErrNotExist) {
		return gitDir, nil
	}
	if err != nil {
		return "", fail(RepositoryMissing, "%w", err)
	}
	dir := strings.TrimSpace(string(common))
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(gitDir, dir)
	}
	return filepath.Clean(dir), nil
}

func isRepository(dir string) bool {
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// branchDirs names the directories in which a branch can change: the git
// directory for packed-refs, and each one on the way to the branch's own file.
func branchDirs(gitDir, branch string) []string {
	dirs := []string{gitDir, filepath.Join(gitDir, "refs")}
	dir := filepath.Join(gitDir, "refs", "heads")
	dirs = append(dirs, dir)
	parts := strings.Split(branch, "/")
	for _, part := range parts[:len(parts)-1] {
		dir = filepath.Join(dir, part)
		dirs = append(dirs, dir)
	}
	return dirs
}

// openRepository refuses the layouts that go-git reads only in part.
func openRepository(gitDir string) (*filesystem.Storage, error) {
	info, err := os.Stat(filepath.Join(gitDir, "objects", "info", "alternates"))
	if err == nil && info.Size() > 0 {
		return nil, fail(Unsupported, "a repository that borrows objects from another (alternates) is not supported")
	}
	store := filesystem.NewStorageWithOptions(osfs.New(gitDir), cache.NewObjectLRUDefault(),
		filesystem.Options{KeepDescriptors: true})
	cfg, err := store.Config()
	if err != nil {
		return nil, fail(Corrupt, "the configuration of the repository cannot be read: %v", err)
	}
	extensions := cfg.Raw.Section("extensions")
	switch {
	case strings.EqualFold(extensions.Option("objectformat"), "sha256"):
		return nil, errSHA256
	case strings.EqualFold(extensions.Option("refstorage"), "reftable"):
		return nil, fail(Unsupported, "a repository with reftables is not supported")
	case extensions.Option("partialclone") != "":
		return nil, fail(Unsupported, "a partial clone is not supported")
	}
	return store, nil
}

func localTip(store *filesystem.Storage, branch string) (plumbing.Hash, error) {
	ref, err := storer.ResolveReference(store, plumbing.NewBranchReferenceName(branch))
	switch {
	case errors.Is(err, plumbing.ErrReferenceNotFound):
		if !hasBranches(store) {
			return plumbing.ZeroHash, errNoCommits
		}
		return plumbing.ZeroHash, errNoBranch(branch)
	case err != nil:
		return plumbing.ZeroHash, fail(Corrupt, "the branch %q cannot be read: %v", branch, err)
	case ref.Hash().IsZero():
		return plumbing.ZeroHash, fail(Corrupt, "the branch %q names no commit", branch)
	}
	return ref.Hash(), nil
}

func hasBranches(store *filesystem.Storage) bool {
	refs, err := store.IterReferences()
	if err != nil {
		return false
	}
	defer refs.Close()
	found := false
	_ = refs.ForEach(func(r *plumbing.Reference) error {
		found = found || r.Type() == plumbing.HashReference
		return nil
	})
	return found
}
