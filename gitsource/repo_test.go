package gitsource

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// repo is a git repository with a worktree, driven by the git command.
type repo struct {
	t   testing.TB
	dir string
}

func newRepo(t testing.TB) *repo {
	t.Helper()
	r := &repo{t: t, dir: t.TempDir()}
	r.git("init", "-q", "-b", "main")
	config, err := os.OpenFile(filepath.Join(r.dir, ".git", "config"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer config.Close()
	if _, err := io.WriteString(config, "[uploadpack]\n\tallowFilter = true\n[gc]\n\tauto = 0\n"); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *repo) git(args ...string) string {
	r.t.Helper()
	return gitIn(r.t, r.dir, args...)
}

func gitIn(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *repo) write(files ...string) {
	r.t.Helper()
	writeFiles(r.t, r.dir, files...)
}

// writeFiles writes pairs of a path and a content.
func writeFiles(t testing.TB, dir string, files ...string) {
	t.Helper()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// commit writes pairs of a path and a content, and commits everything.
func (r *repo) commit(message string, files ...string) string {
	r.t.Helper()
	r.write(files...)
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", message)
	return r.git("rev-parse", "HEAD")
}

// server is git http-backend behind a Go server, with a place for mischief.
type server struct {
	*httptest.Server
	meddle   atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool] // true: answered
	requests atomic.Int64
	posts    atomic.Int64
	sent     atomic.Int64 // bytes of bodies
}

func (s *server) set(f func(w http.ResponseWriter, r *http.Request) bool) {
	if f == nil {
		s.meddle.Store(nil)
		return
	}
	s.meddle.Store(&f)
}

func (s *server) url(r *repo) string { return s.URL + "/" + filepath.Base(r.dir) }

func serve(t testing.TB, r *repo) *server {
	s := &server{}
	s.Server = httptest.NewServer(s.handler(t, r))
	t.Cleanup(s.Close)
	return s
}

func (s *server) handler(t testing.TB, r *repo) http.Handler {
	t.Helper()
	execPath := gitIn(t, r.dir, "--exec-path")
	backend := &cgi.Handler{
		Path: filepath.Join(execPath, "git-http-backend"),
		Env: []string{
			"GIT_PROJECT_ROOT=" + filepath.Dir(r.dir), "GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_COUNT=1",
			"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		},
		InheritEnv: []string{"PATH"},
		Stderr:     io.Discard,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.requests.Add(1)
		if req.Method == http.MethodPost {
			s.posts.Add(1)
		}
		counted := &countingWriter{ResponseWriter: w, n: &s.sent}
		if f := s.meddle.Load(); f != nil && (*f)(counted, req) {
			return
		}
		backend.ServeHTTP(counted, req)
	})
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	return n, err
}

func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// follower drives a Source look by look, without Run and its clock.
type follower struct {
	t      testing.TB
	s      *Source
	update Update
	last   *fleet.Snapshot // the last snapshot published: what stays in force
}

func follow(t testing.TB, cfg Config) *follower {
	t.Helper()
	f := &follower{t: t}
	cfg.OnUpdate = func(u Update) {
		f.update = u
		if u.Snapshot != nil {
			f.last = u.Snapshot
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(s.remote.close)
	f.s = s
	return f
}

func (f *follower) look() Update {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	f.s.look(ctx)
	return f.update
}

// wantRevision looks and expects a new snapshot of this commit.
func (f *follower) wantRevision(id string) *fleet.Snapshot {
	f.t.Helper()
	u := f.look()
	if u.Snapshot == nil {
		f.t.Fatalf("no snapshot: reason %q, %s", u.Status.Reason, u.Status.Message)
	}
	if u.Snapshot.Revision.ID != id || u.Status.Head.ID != id {
		f.t.Fatalf("revision %s (head %s), want %s", u.Snapshot.Revision.ID, u.Status.Head.ID, id)
	}
	if u.Status.Reason != "" || u.Status.Failures != 0 || u.Status.Message != "" {
		f.t.Fatalf("status of a good look: %+v", u.Status)
	}
	return u.Snapshot
}

// wantReason looks and expects a failure that leaves the last snapshot in force.
func (f *follower) wantReason(reason Reason, words ...string) Update {
	f.t.Helper()
	before := f.last
	head := f.s.status.Head
	u := f.look()
	if u.Snapshot != nil || f.last != before || u.Status.Head != head {
		f.t.Fatalf("a failure published a snapshot or moved the head: %+v", u.Status)
	}
	if u.Status.Reason != string(reason) {
		f.t.Fatalf("reason %q (%s), want %q", u.Status.Reason, u.Status.Message, reason)
	}
	for _, w := range words {
		if !strings.Contains(u.Status.Message, w) {
			f.t.Fatalf("message %q does not say %q", u.Status.Message, w)
		}
	}
	if len(u.Status.Message) > maxMessage || strings.ContainsAny(u.Status.Message, "\n\r\x1b") {
		f.t.Fatalf("message is not one short printable line: %q", u.Status.Message)
	}
	return u
}

func (f *follower) wantNothing() {
	f.t.Helper()
	if u := f.look(); u.Snapshot != nil || u.Status.Reason != "" {
		f.t.Fatalf("want nothing new and no failure: %+v", u)
	}
}

func paths(s *fleet.Snapshot) []string {
	var out []string
	for _, f := range s.Files {
		out = append(out, f.Path)
	}
	return out
}

func bodyOf(t testing.TB, s *fleet.Snapshot, path string) string {
	t.Helper()
	i := slices.IndexFunc(s.Files, func(f fleet.Source) bool { return f.Path == path })
	if i < 0 {
		t.Fatalf("no file %s among %v", path, paths(s))
	}
	return string(s.Files[i].Body)
}
