package gitsource

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// running is a Source whose Run follows a path, with a poll so long that only
// notices of changes can be what wakes it.
type running struct {
	t       testing.TB
	s       *Source
	updates chan Update
}

func run(t testing.TB, cfg Config) *running {
	t.Helper()
	r := &running{t: t, updates: make(chan Update, 1000)}
	if cfg.Poll == 0 {
		cfg.Poll = time.Hour
	}
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	cfg.OnUpdate = func(u Update) { r.updates <- u }
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.s = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// until waits for an update that is what is wanted.
func (r *running) until(what string, ok func(Update) bool) Update {
	r.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case u := <-r.updates:
			if ok(u) {
				return u
			}
		case <-limit:
			r.t.Fatalf("no update with %s", what)
		}
	}
}

// untilBody waits for a snapshot in which the file has this content. Whatever is
// published before must be one of the contents in also.
func (r *running) untilBody(path, want string, also ...string) Update {
	r.t.Helper()
	return r.until(path+" = "+want, func(u Update) bool {
		if u.Snapshot == nil {
			return false
		}
		got := bodyOf(r.t, u.Snapshot, path)
		if got != want && !slices.Contains(also, got) {
			r.t.Fatalf("%s is %q, want %q", path, got, want)
		}
		return got == want
	})
}

// settled waits until the watches are in place: the look after the first.
func (r *running) settled() {
	r.t.Helper()
	r.until("a first snapshot", func(u Update) bool { return u.Snapshot != nil })
	r.until("a second look", func(u Update) bool { return u.Snapshot == nil && u.Status.Reason == "" })
}

func TestNoticeLocalCommits(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	repo.commit("first", "a.yaml", "1")
	repo.git("checkout", "-q", "-b", "team/x")
	r := run(t, Config{URL: repo.dir, Branch: "team/x"})
	r.settled()
	for _, content := range []string{"2", "3"} {
		repo.commit("next", "a.yaml", content)
		r.untilBody("a.yaml", content)
	}
	repo.git("pack-refs", "--all")
	repo.git("gc", "-q")
	repo.commit("after gc", "a.yaml", "4")
	r.untilBody("a.yaml", "4")
}

func TestNoticePushToBareRepository(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	repo.commit("first", "a.yaml", "1")
	bare := filepath.Join(t.TempDir(), "bare.git")
	gitIn(t, repo.dir, "clone", "-q", "--bare", repo.dir, bare)
	r := run(t, Config{URL: bare})
	r.settled()
	repo.commit("next", "a.yaml", "2")
	repo.git("push", "-q", bare, "main")
	r.untilBody("a.yaml", "2")
}

func TestNoticePlainDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFiles(t, dir, "a.yaml", "1", "deep/er/b.yaml", "1")
	r := run(t, Config{URL: dir})
	first := r.until("a snapshot", func(u Update) bool { return u.Snapshot != nil })
	id := first.Status.Head.ID
	if !strings.HasPrefix(id, "dir:") || len(id) != 4+64 || first.Status.Branch != "" {
		t.Fatalf("revision %q of branch %q", id, first.Status.Branch)
	}
	r.until("a second look", func(u Update) bool { return u.Snapshot == nil })
	writeFiles(t, dir, "deep/er/b.yaml", "2")
	r.untilBody("deep/er/b.yaml", "2")
	writeFiles(t, dir, "new/dir/c.yaml", "1")
	r.until("a new directory", func(u Update) bool {
		return u.Snapshot != nil && slices.Contains(paths(u.Snapshot), "new/dir/c.yaml")
	})
	writeFiles(t, dir, "new/dir/c.yaml", "2")
	r.untilBody("new/dir/c.yaml", "2", "1")
	if err := os.RemoveAll(filepath.Join(dir, "new")); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, dir, "deep/er/b.yaml", "1")
	back := r.until("the first content", func(u Update) bool { return u.Status.Head.ID == id })
	if got := paths(back.Snapshot); len(got) != 2 {
		t.Fatalf("files %v", got)
	}
}

// A Kubernetes volume: links lead through ..data, which is swapped as a whole.
func TestNoticeConfigMapSwap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFiles(t, dir, "..2026_01/a.yaml", "1", "..2026_01/sub/b.yaml", "1")
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..2026_01", "..data")
	link("..data/a.yaml", "a.yaml")
	link("..data/sub", "sub")
	link("a.yaml", "plain-link.yaml")
	r := run(t, Config{URL: dir})
	first := r.until("a snapshot", func(u Update) bool { return u.Snapshot != nil })
	want := []fleet.Source{
		{Path: "a.yaml", Kind: fleet.Regular, Body: []byte("1")},
		{Path: "plain-link.yaml", Kind: fleet.Symlink, Body: []byte("a.yaml")},
		{Path: "sub/b.yaml", Kind: fleet.Regular, Body: []byte("1")},
	}
	if len(first.Snapshot.Files) != 3 {
		t.Fatalf("files: %v", paths(first.Snapshot))
	}
	for i, f := range first.Snapshot.Files {
		if f.Path != want[i].Path || f.Kind != want[i].Kind || string(f.Body) != string(want[i].Body) {
			t.Errorf("file %d: %+v, want %+v", i, f, want[i])
		}
	}
	r.until("a second look", func(u Update) bool { return u.Snapshot == nil })
	writeFiles(t, dir, "..2026_02/a.yaml", "2", "..2026_02/sub/b.yaml", "2")
	link("..2026_02", "..data_tmp")
	renameOver(t, filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))
	if err := os.RemoveAll(filepath.Join(dir, "..2026_01")); err != nil {
		t.Fatal(err)
	}
	u := r.untilBody("a.yaml", "2")
	if bodyOf(t, u.Snapshot, "sub/b.yaml") != "2" {
		t.Error("half of a swap was published")
	}
}

// git-sync: a link to a worktree that is swapped for one to another.
func TestNoticeGitSyncSwap(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	repo.commit("first", "a.yaml", "1")
	base := t.TempDir()
	current := filepath.Join(base, "current")
	flip := func(name string) {
		t.Helper()
		repo.git("worktree", "add", "-q", "--detach", filepath.Join(base, name), "main")
		if err := os.Symlink(name, filepath.Join(base, "tmp")); err != nil {
			t.Fatal(err)
		}
		renameOver(t, filepath.Join(base, "tmp"), current)
	}
	flip("one")
	r := run(t, Config{URL: current})
	first := r.until("a snapshot", func(u Update) bool { return u.Snapshot != nil })
	if got := paths(first.Snapshot); len(got) != 1 || !strings.HasPrefix(first.Status.Head.ID, "dir:") {
		t.Fatalf("files %v of %s", got, first.Status.Head.ID)
	}
	r.until("a second look", func(u Update) bool { return u.Snapshot == nil })
	for _, name := range []string{"two", "three"} {
		repo.commit(name, "a.yaml", name)
		flip(name)
		r.untilBody("a.yaml", name)
	}
}

// The poll finds what no notice came for.
func TestPollIsTheFloor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFiles(t, dir, "a.yaml", "1")
	r := run(t, Config{URL: dir, Poll: 50 * time.Millisecond})
	r.settled()
	info, err := os.Stat(filepath.Join(dir, "a.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, dir, "a.yaml", "2")
	if err := os.Chtimes(filepath.Join(dir, "a.yaml"), info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	r.untilBody("a.yaml", "2")
}

// After a refused login a rotated secret is tried at once.
func TestNoticeRotatedSecret(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	good := repo.commit("good", "a.yaml", "1")
	s, key := serveSSH(t)
	_, stranger := newKey(t)
	file := writeKey(t, stranger, "")
	r := run(t, Config{
		URL: "ssh://" + s.addr + repo.dir, SSHKeyFile: file, KnownHostsFile: s.knownHosts(t, s.host.PublicKey()),
	})
	r.until("a refused key", func(u Update) bool { return u.Status.Reason == string(AuthFailed) })
	renameOver(t, writeKey(t, key, ""), file)
	r.until("a snapshot", func(u Update) bool { return u.Status.Head.ID == good })
}

func TestPlainDirectoryOddities(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, "a.yaml", "1", "sub/b.yaml", "2", ".git/config", "no repository")
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "out.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..", filepath.Join(dir, "up")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := follow(t, Config{URL: dir})
	u := f.look()
	if u.Snapshot == nil {
		t.Fatalf("no snapshot: %+v", u.Status)
	}
	if got := paths(u.Snapshot); !slices.Equal(got, []string{"a.yaml", "dangling", "out.yaml", "sub/b.yaml", "up"}) {
		t.Fatalf("files %v", got)
	}
	if got := bodyOf(t, u.Snapshot, "out.yaml"); got != "/etc/passwd" {
		t.Fatalf("a link was followed: %q", got)
	}
	f.wantNothing()
	scoped := follow(t, Config{URL: dir, Path: "sub"})
	if got := paths(scoped.look().Snapshot); !slices.Equal(got, []string{"sub/b.yaml"}) {
		t.Fatalf("files %v", got)
	}
	follow(t, Config{URL: dir, Path: "nowhere"}).wantReason(PathMissing)
	follow(t, Config{URL: t.TempDir()}).wantReason(Empty)
	if err := os.Remove(filepath.Join(dir, "sub/b.yaml")); err != nil {
		t.Fatal(err)
	}
	scoped.wantReason(Empty)
	// a volume whose links lead nowhere is in the middle of something, not empty
	if err := os.Symlink("..data/x.yaml", filepath.Join(dir, "x.yaml")); err != nil {
		t.Fatal(err)
	}
	f.wantReason(Unreachable, "did not stop changing")
}
