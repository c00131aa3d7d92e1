//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// world is one server with its repository and its agents.
type world struct {
	t      *testing.T
	repo   *repository
	server *server
	pairs  []*supervisor // the canaries first
}

// newWorld starts a server on a repository that declares nothing for our agents,
// and that many Supervisors, and returns once all of them are connected. At the
// end of the test everything is stopped, and must stop well.
func newWorld(t *testing.T, agents, canaries int) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, repo: newRepository(t, filepath.Join(dir, "fleet"))}
	w.repo.commit("nothing for the agents yet", nobody())
	w.server = &server{t: t, dir: dir, repo: w.repo.dir}
	t.Cleanup(w.stop)
	w.server.start()
	for i := range agents {
		s := newSupervisor(t, filepath.Join(dir, fmt.Sprintf("agent-%02d", i)), w.server.opampURL(), i < canaries)
		s.start()
		w.pairs = append(w.pairs, s)
	}
	w.await("all agents connected and healthy", 60*time.Second, w.allAre(func(a agentView) bool {
		return a.Connected && a.Healthy
	}))
	return w
}

func (w *world) canaries() []*supervisor { return w.only(true) }
func (w *world) others() []*supervisor   { return w.only(false) }

func (w *world) only(canary bool) []*supervisor {
	var found []*supervisor
	for _, s := range w.pairs {
		if s.canary == canary {
			found = append(found, s)
		}
	}
	return found
}

// check is asked again and again; it tells whether it is content, and how things
// stand for the message if it never is.
type check func() (done bool, stand string)

// every is how often an [world.await] looks.
const every = 100 * time.Millisecond

// await asks until the check is content. It fails the test at the deadline.
func (w *world) await(what string, within time.Duration, c check) {
	w.t.Helper()
	if stand, ok := w.ask(within, c); !ok {
		w.t.Fatalf("not within %v: %s; in the end: %s", within, what, stand)
	}
}

// never asks for the whole time, and fails the test if the check is ever content.
func (w *world) never(what string, during time.Duration, c check) {
	w.t.Helper()
	if stand, ok := w.ask(during, c); ok {
		w.t.Fatalf("%s: %s", what, stand)
	}
}

func (w *world) ask(within time.Duration, c check) (stand string, ok bool) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		done, stand := c()
		if done {
			return stand, true
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			return stand, false
		}
	}
}

// rolloutIs is content when the rollout is as wanted. While the server does not
// answer or does not know the rollout yet, it is not.
func (w *world) rolloutIs(wanted func(rolloutView) bool) check {
	return func() (bool, string) {
		r, err := w.server.rollout()
		if err != nil {
			return false, err.Error()
		}
		return wanted(r), r.short()
	}
}

// allAre is content when the server knows every agent of ours and each is as
// wanted.
func (w *world) allAre(wanted func(agentView) bool) check {
	return func() (bool, string) {
		byID, err := w.agents()
		if err != nil {
			return false, err.Error()
		}
		var not []string
		for _, s := range w.pairs {
			if a, ok := byID[s.uid()]; !ok || !wanted(a) {
				not = append(not, fmt.Sprintf("%s: %+v", s.name, a))
			}
		}
		return len(not) == 0, fmt.Sprintf("%d of %d are not:\n%s", len(not), len(w.pairs), strings.Join(not, "\n"))
	}
}

func (w *world) agents() (map[string]agentView, error) {
	all, err := w.server.agents()
	byID := make(map[string]agentView, len(all))
	for _, a := range all {
		byID[a.ID] = a
	}
	return byID, err
}

// settled commits and waits until every agent runs the result: the rollout is
// Completed on it, and agents, Supervisors and Collectors agree. It returns the
// config hash.
func (w *world) settled(version string, changes ...files) string {
	w.t.Helper()
	before, _ := w.server.rollout()
	w.repo.commit("roll out "+version, append(changes, good(version))...)
	var r rolloutView
	w.await(version+" Completed", 120*time.Second, w.rolloutIs(func(now rolloutView) bool {
		r = now
		return now.Phase == "Completed" && now.Target != before.Target && now.Stable == now.Target
	}))
	w.runs(version, r.Target)
	return r.Target
}

// runs waits until every agent says that it runs the config well, and checks the
// Supervisors' disks.
func (w *world) runs(version, hash string) {
	w.t.Helper()
	w.await("every agent healthy on "+version, 30*time.Second, w.allAre(func(a agentView) bool {
		return a.Connected && a.Healthy && a.Status == "applied" && a.Assigned == hash && a.Delivery == hash
	}))
	for _, s := range w.pairs {
		if !s.stored(hash) || !s.runsVersion(version) {
			w.t.Errorf("%s does not run %s (%.8s): the server says it does", s.name, version, hash)
		}
	}
}

// awaitRevision waits until the server has judged a commit and returns its word.
func (w *world) awaitRevision(commit string) revisionView {
	w.t.Helper()
	var found revisionView
	w.await("commit "+commit[:10]+" judged", 30*time.Second, func() (bool, string) {
		all, err := w.server.revisions()
		for _, r := range all {
			if r.ID == commit && r.State != "" {
				found = r
				return true, ""
			}
		}
		return false, fmt.Sprintf("revisions %v, %v", all, err)
	})
	return found
}

// offers returns how many remote configs all Supervisors have received so far.
func (w *world) offers() int {
	n := 0
	for _, s := range w.pairs {
		n += len(s.offers())
	}
	return n
}

// offered fails the test unless each of the Supervisors has received the config
// that many times, in all of its lives.
func (w *world) offered(times int, hash string, pairs []*supervisor) {
	w.t.Helper()
	for _, s := range pairs {
		if n := s.offersOf(hash); n != times {
			w.t.Errorf("%s received %.8s %d times, want %d", s.name, hash, n, times)
		}
	}
}

// quiet fails the test if any Supervisor receives anything within a few polls of
// the repository.
func (w *world) quiet(why string) {
	w.t.Helper()
	before := w.offers()
	w.never("an offer, although "+why, 3*time.Second, func() (bool, string) {
		now := w.offers()
		return now != before, fmt.Sprintf("%d offers, %d before", now, before)
	})
}

// stop ends the Supervisors together, then the server, and tells what there is to
// know if the test failed.
func (w *world) stop() {
	if w.t.Failed() {
		for _, path := range []string{"/api/v1/rollouts", "/api/v1/agents", "/api/v1/revisions"} {
			body, err := get(w.server.http, path)
			w.t.Logf("%s: %s %v", path, body, err)
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(w.pairs))
	for i, s := range w.pairs {
		if s.proc != nil {
			wg.Go(func() { errs[i] = s.interrupt() })
		}
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			w.t.Error(err)
		}
	}
	if w.server.proc != nil {
		w.server.terminate()
		w.server.checkLog()
	}
	if w.t.Failed() {
		w.tellLogs()
	}
}

// keepVar names the environment variable that points at a folder in which the
// logs and folders of failed tests are kept.
const keepVar = "BELLWETHER_E2E_KEEP"

func (w *world) tellLogs() {
	w.t.Logf("serve.log:\n%s", tail(w.server.log(), 80))
	for _, s := range w.pairs {
		w.t.Logf("%s (%s) supervisor.log:\n%s", s.name, s.uid(), tail(s.log(), 8))
	}
	if keep := os.Getenv(keepVar); keep != "" {
		to := filepath.Join(keep, w.t.Name())
		w.t.Logf("everything is kept in %s: %v", to, os.CopyFS(to, os.DirFS(w.server.dir)))
	}
}
