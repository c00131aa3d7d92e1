package gitsource

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Rows about things that are not there: never "desired state empty".

func TestFailureBranchDeleted(t *testing.T) {
	for _, kind := range []string{"http", "local"} {
		t.Run(kind, func(t *testing.T) {
			r := newRepo(t)
			good := r.commit("good", "a.yaml", "a: 1\n")
			r.git("branch", "other")
			url := r.dir
			if kind == "http" {
				url = serve(t, r).url(r)
			}
			f := follow(t, Config{URL: url})
			f.wantRevision(good)
			r.git("branch", "-m", "main", "elsewhere")
			f.wantReason(RefMissing, `no branch "main"`)
			f.wantReason(RefMissing)
			r.git("branch", "-m", "elsewhere", "main")
			f.wantNothing()
			r.git("branch", "-m", "main", "elsewhere")
			f.wantReason(RefMissing)
			r.git("checkout", "-q", "-b", "main")
			f.wantRevision(r.commit("again", "a.yaml", "a: 2\n"))
		})
	}
}

// A branch whose name begins like ours is another.
func TestBranchNamePrefix(t *testing.T) {
	r := newRepo(t)
	r.commit("good", "a.yaml", "a: 1\n")
	r.git("branch", "team/x-old")
	f := follow(t, Config{URL: serve(t, r).url(r), Branch: "team/x"})
	f.wantReason(RefMissing, `"team/x"`)
	r.git("branch", "team/x")
	f.wantRevision(r.git("rev-parse", "main"))
}

func TestFailureEmptyRepository(t *testing.T) {
	r := newRepo(t)
	s, key := serveSSH(t)
	for name, cfg := range map[string]Config{
		"local": {URL: r.dir},
		"ssh": {
			URL:        "ssh://" + s.addr + r.dir,
			SSHKeyFile: writeKey(t, key, ""), KnownHostsFile: s.knownHosts(t, s.host.PublicKey()),
		},
	} {
		t.Run(name, func(t *testing.T) { follow(t, cfg).wantReason(Empty, "no commits") })
	}
	f := follow(t, Config{URL: serve(t, r).url(r)})
	u := f.look() // version 2 does not tell an empty repository from a missing branch
	if u.Snapshot != nil || u.Status.Reason != string(Empty) && u.Status.Reason != string(RefMissing) {
		t.Fatalf("an empty repository: %+v", u.Status)
	}
	f.wantRevision(r.commit("first", "a.yaml", "a: 1\n"))
}

// A commit without any file, and one without the directory we read.
func TestFailureEmptyScope(t *testing.T) {
	r, s, f := followed(t, nil)
	scoped := follow(t, Config{URL: s.url(r), Path: "configs/"})
	snapshot := scoped.wantRevision(r.git("rev-parse", "main"))
	if got := paths(snapshot); len(got) != 1 || got[0] != "configs/base.yaml" || snapshot.Root != "configs" {
		t.Fatalf("scope configs holds %v of root %q", got, snapshot.Root)
	}
	r.git("rm", "-q", "-r", "configs")
	r.commit("the directory is gone")
	f.wantRevision(r.git("rev-parse", "main"))
	scoped.wantReason(PathMissing, `"configs"`)
	posts := s.posts.Load()
	scoped.wantReason(PathMissing)
	if n := s.posts.Load() - posts; n != 1 {
		t.Fatalf("a refused tip was fetched again: %d questions, want 1", n)
	}
	r.git("rm", "-q", "-r", ".")
	r.commit("everything is gone")
	f.wantReason(Empty, "no files")
	scoped.wantReason(PathMissing)
	r.git("revert", "--no-edit", "HEAD", "HEAD~1")
	f.wantRevision(r.git("rev-parse", "main"))
	scoped.wantRevision(r.git("rev-parse", "main"))
}

// A scope that is a file, or behind a link or a submodule, is no directory.
func TestScopeThatIsNoDirectory(t *testing.T) {
	r := newRepo(t)
	r.write("dir/a.yaml", "a: 1\n")
	if err := os.Symlink("dir", filepath.Join(r.dir, "link")); err != nil {
		t.Fatal(err)
	}
	r.commit("good")
	for _, scope := range []string{"dir/a.yaml", "link", "dir/a.yaml/x", "Dir"} {
		follow(t, Config{URL: r.dir, Path: scope}).wantReason(PathMissing)
	}
}

func TestFailureRepositoryMoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	r := &repo{t: t, dir: dir}
	gitIn(t, t.TempDir(), "init", "-q", "-b", "main", dir)
	good := r.commit("good", "a.yaml", "a: 1\n")
	f := follow(t, Config{URL: dir})
	f.wantRevision(good)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	f.wantReason(RepositoryMissing)
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	f.wantNothing()
}

// go-git's own walkers would read this as "all files but one were deleted".
func TestFailureMissingObjects(t *testing.T) {
	for _, object := range []string{"main:deep", "main:deep/b.yaml", "main^{tree}", "main"} {
		t.Run(object, func(t *testing.T) {
			r := newRepo(t)
			good := r.commit("good", "a.yaml", "a: 1\n")
			f := follow(t, Config{URL: r.dir})
			f.wantRevision(good)
			next := r.commit("next", "deep/b.yaml", "b: 2\n", "c.yaml", "c: 3\n")
			hash := r.git("rev-parse", object)
			file := filepath.Join(r.dir, ".git", "objects", hash[:2], hash[2:])
			if err := os.Rename(file, file+".away"); err != nil {
				t.Fatal(err)
			}
			f.wantReason(Corrupt, "missing")
			if err := os.Rename(file+".away", file); err != nil {
				t.Fatal(err)
			}
			f.wantRevision(next)
		})
	}
}

// An object on disk with another content than its name says.
func TestFailureSwappedObject(t *testing.T) {
	r := newRepo(t)
	r.commit("good", "a.yaml", "a: 1\n", "b.yaml", "b: 2\n")
	object := func(name string) string {
		hash := r.git("rev-parse", name)
		return filepath.Join(r.dir, ".git", "objects", hash[:2], hash[2:])
	}
	content, err := os.ReadFile(object("main:b.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(object("main:a.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(object("main:a.yaml"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	follow(t, Config{URL: r.dir}).wantReason(Corrupt, "a.yaml is not the object")
}

func TestFailureUnsupportedRepositories(t *testing.T) {
	r := newRepo(t)
	r.commit("good", "a.yaml", "a: 1\n")
	t.Run("alternates", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "clone")
		gitIn(t, r.dir, "clone", "-q", "--shared", r.dir, dir)
		follow(t, Config{URL: dir}).wantReason(Unsupported, "alternates")
	})
	t.Run("partial clone", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "clone")
		gitIn(t, r.dir, "clone", "-q", "--filter=blob:none", "file://"+r.dir, dir)
		gitIn(t, dir, "config", "extensions.partialClone", "origin")
		follow(t, Config{URL: dir}).wantReason(Unsupported, "partial")
	})
	t.Run("reftable", func(t *testing.T) {
		other := newRepo(t)
		other.git("config", "extensions.refStorage", "reftable")
		follow(t, Config{URL: other.dir}).wantReason(Unsupported, "reftables")
	})
	sha256 := &repo{t: t, dir: t.TempDir()}
	sha256.git("init", "-q", "-b", "main", "--object-format=sha256")
	sha256.commit("good", "a.yaml", "a: 1\n")
	s, key := serveSSH(t)
	for name, cfg := range map[string]Config{
		"sha256 local": {URL: sha256.dir},
		"sha256 http":  {URL: serve(t, sha256).url(sha256)},
		"sha256 ssh": {
			URL:        "ssh://" + s.addr + sha256.dir,
			SSHKeyFile: writeKey(t, key, ""), KnownHostsFile: s.knownHosts(t, s.host.PublicKey()),
		},
	} {
		t.Run(name, func(t *testing.T) { follow(t, cfg).wantReason(Unsupported, "SHA-256") })
	}
}

// A force-push is a new revision like any other; a revert brings the old content
// under a new one.
func TestFailureTableRewriteIsAccepted(t *testing.T) {
	r, _, f := followed(t, nil)
	before := bodyOf(t, f.last, "rollout.yaml")
	bad := r.commit("bad", "rollout.yaml", "kind: Nonsense\n")
	f.wantRevision(bad)
	r.git("revert", "--no-edit", "HEAD")
	s := f.wantRevision(r.git("rev-parse", "main"))
	if bodyOf(t, s, "rollout.yaml") != before {
		t.Fatal("the revert has other content")
	}
	r.git("reset", "-q", "--hard", "HEAD~2")
	r.git("commit", "-q", "--amend", "-m", "rewritten")
	f.wantRevision(r.git("rev-parse", "main"))
}

// Forges are read through replicas that lag: a tip that goes back right after it
// moved is looked at twice.
func TestFailureReplicaLag(t *testing.T) {
	r, _, f := followed(t, nil)
	old := r.git("rev-parse", "main")
	next := r.commit("next", "a.yaml", "a: 1\n")
	f.wantRevision(next)
	r.git("reset", "-q", "--hard", old)
	u := f.look()
	if u.Snapshot != nil || u.Status.Reason != "" {
		t.Fatalf("the lagging answer was believed: %+v", u)
	}
	if wait := time.Until(u.Status.NextPoll); wait > 3*time.Second {
		t.Fatalf("the second look is in %s", wait)
	}
	r.git("reset", "-q", "--hard", next)
	f.wantNothing()
	r.git("reset", "-q", "--hard", old)
	f.wantNothing()
	f.wantRevision(old)
}

// At the first start with the forge down there is nothing, and it says so.
func TestFailureFirstStart(t *testing.T) {
	r := newRepo(t)
	good := r.commit("good", "a.yaml", "a: 1\n")
	s := serve(t, r)
	s.set(answer(http.StatusBadGateway, "upstream"))
	f := follow(t, Config{URL: s.url(r)})
	u := f.wantReason(Unreachable)
	if !u.Status.LastSuccess.IsZero() || u.Status.Head.ID != "" {
		t.Fatalf("status of a source that never answered: %+v", u.Status)
	}
	s.set(nil)
	f.wantRevision(good)
}

// A restart with the forge down starts from the cache.
func TestFailureRestartWithTheForgeDown(t *testing.T) {
	_, s, f := followed(t, nil)
	cache := Cache{Dir: filepath.Join(t.TempDir(), "cache")}
	if err := cache.Save(*f.last); err != nil {
		t.Fatal(err)
	}
	s.Close()
	again := follow(t, f.s.cfg)
	again.wantReason(Unreachable)
	got, ok, err := cache.Load()
	if err != nil || !ok || got.Revision.ID != f.last.Revision.ID || bodyOf(t, &got, "rollout.yaml") != "kind: Rollout\n" {
		t.Fatalf("cache: %v %v %+v", ok, err, got.Revision)
	}
}

// A bug of ours is caught, once for each tip.
func TestFailurePanic(t *testing.T) {
	fake := &fakeRemote{id: "1"}
	s := newSource(testConfig(t), fake, "fake")
	f := &follower{t: t, s: s}
	s.cfg.OnUpdate = func(u Update) { f.update = u }
	fake.onFetch = func() { panic("a bug with a secret") }
	u := f.wantReason(Internal)
	if strings.Contains(u.Status.Message, "secret") {
		t.Fatalf("message: %s", u.Status.Message)
	}
	f.wantReason(Internal)
	if fake.fetches != 1 {
		t.Fatalf("fetched %d times, want once", fake.fetches)
	}
	fake.id, fake.onFetch = "2", nil
	f.wantRevision("2")
}

func TestLinkedWorktree(t *testing.T) {
	r := newRepo(t)
	good := r.commit("good", "a.yaml", "a: 1\n")
	dir := filepath.Join(t.TempDir(), "linked")
	r.git("worktree", "add", "-q", dir, "-b", "side")
	f := follow(t, Config{URL: dir})
	f.wantRevision(good)
	f.wantRevision(r.commit("next", "a.yaml", "a: 2\n"))
}
