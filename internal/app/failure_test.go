package app_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bellwether-opamp/bellwether/internal/sim"
	"github.com/bellwether-opamp/bellwether/internal/web"
)

func (w *world) git(args ...string) string {
	w.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = w.cfg.Git
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *world) commit() string {
	w.t.Helper()
	w.git("add", "-A")
	w.git("commit", "-q", "--allow-empty", "-m", "a change")
	return w.git("rev-parse", "HEAD")
}

func (w *world) move(from, to string) {
	w.t.Helper()
	if err := os.Rename(from, to); err != nil {
		w.t.Fatal(err)
	}
}

func offered(f *sim.Fleet) (n int) {
	for _, a := range f.Agents() {
		n += len(a.Offered)
	}
	return n
}

// failure is one way in which the repository goes bad under a running server.
type failure struct {
	name    string
	do      func(w *world) (undo func())
	reason  string // of the source; "" when the revision is rejected
	problem string // in a rejected revision
}

func failures() []failure {
	object := func(name string) func(w *world) func() {
		return func(w *world) func() {
			w.write("another.yaml", "x: "+name+"\n")
			w.commit()
			hash := w.git("rev-parse", name)
			file := filepath.Join(w.cfg.Git, ".git", "objects", hash[:2], hash[2:])
			w.move(file, file+".away")
			return func() { w.move(file+".away", file) }
		}
	}
	files := func(change func(w *world)) func(w *world) func() {
		return func(w *world) func() {
			change(w)
			w.commit()
			return func() { w.git("revert", "--no-edit", "HEAD") }
		}
	}
	return []failure{
		{name: "the repository is away", reason: "repository_missing", do: func(w *world) func() {
			w.move(w.cfg.Git, w.cfg.Git+".away")
			return func() { w.move(w.cfg.Git+".away", w.cfg.Git) }
		}},
		{name: "the branch is deleted", reason: "ref_missing", do: func(w *world) func() {
			w.git("branch", "-m", "main", "elsewhere")
			return func() { w.git("branch", "-m", "elsewhere", "main") }
		}},
		{name: "every file is deleted", reason: "empty", do: files(func(w *world) { w.git("rm", "-q", "-r", ".") })},
		{name: "an object is missing", reason: "corrupt", do: object("main^{tree}")},
		{name: "a file is over the limit", reason: "limit_exceeded", do: files(func(w *world) {
			w.write("big.yaml", strings.Repeat("# a line of a file that is far too large\n", 300_000))
		})},
		{name: "a config that does not parse", problem: "edge.yaml:2:", do: files(func(w *world) { w.write("edge.yaml", "receivers: [\n") })},
		{name: "a config without a pipeline", problem: "C004", do: files(func(w *world) { w.write("edge.yaml", "receivers: {nop: {}}\n") })},
		{name: "an empty config", problem: "edge.yaml", do: files(func(w *world) { w.write("edge.yaml", "") })},
		{name: "no Rollout is declared any more", problem: "--allow-empty", do: files(func(w *world) { w.git("rm", "-q", "rollout.yaml") })},
	}
}

// Whatever becomes of the repository: what was in force stays, the status says
// why, and no agent is sent anything; nor when it is as before again.
func TestAFailureOfTheRepositoryMovesNobody(t *testing.T) {
	w := newWorld(t)
	w.git("init", "-q", "-b", "main")
	good := w.commit()
	w.start()
	fleet := w.agents(3, nil)
	w.until("the rollout is completed", w.completed)
	first := offered(fleet)
	if first != 3 {
		t.Fatalf("%d offers to three agents", first)
	}
	for _, f := range failures() {
		undo := f.do(w)
		w.until(f.name+": it says why", func() bool { return w.says(f) })
		st, err := w.client.Status(t.Context())
		if err != nil || st.Revision == nil || st.Revision.ID != good {
			t.Fatalf("%s: in force is %+v (%v), want %s", f.name, st.Revision, err, good)
		}
		if !w.completed() || offered(fleet) != first {
			t.Fatalf("%s: agents were disturbed, %d offers", f.name, offered(fleet)-first)
		}
		undo()
		good = w.commit()
		w.until(f.name+": the mended repository is in force", func() bool {
			_ = w.client.Sync(t.Context())
			st, err := w.client.Status(t.Context())
			return err == nil && st.Source.Reason == "" && st.Revision != nil && st.Revision.ID == good
		})
		if !w.completed() || offered(fleet) != first {
			t.Fatalf("%s: mending it disturbed agents, %d offers", f.name, offered(fleet)-first)
		}
	}
}

// says asks the API whether it tells of the failure.
func (w *world) says(f failure) bool {
	_ = w.client.Sync(w.t.Context())
	if f.reason != "" {
		st, err := w.client.Status(w.t.Context())
		return err == nil && st.Source.Reason == f.reason && st.Source.Message != ""
	}
	revisions, err := w.client.Revisions(w.t.Context())
	return err == nil && len(revisions) > 0 && rejected(revisions[0], w.git("rev-parse", "HEAD"), f.problem)
}

func rejected(r web.Revision, id, problem string) bool {
	return r.ID == id && r.State == "rejected" && strings.Contains(strings.Join(r.Problems, "\n"), problem)
}
