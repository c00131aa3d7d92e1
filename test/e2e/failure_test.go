//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// A bad commit is caught in the canary and goes home, is not offered again in
// whatever commit it comes back, YAML that does not parse reaches nobody, and the
// next good commit reaches everybody.
func TestBadCommitGoesHome(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6, 2)
	v1 := w.settled("v1", canaryFirst().manifests())

	bad := w.goesHome("v1", v1, unknownExporter("v2"), "Rejected")
	for _, s := range w.canaries() {
		if n := s.offersOf(bad); n > 1 {
			t.Errorf("the canary %s received the bad config %d times", s.name, n)
		}
	}
	w.offered(0, bad, w.others())

	t.Log("the same bad content again")
	words := w.repo.commit("only words", files{"README.md": "Still bad.\n"})
	w.awaitRevision(words)
	w.quiet("the content is the one that failed")
	slower := canaryFirst()
	slower.minHealthyTime += time.Second
	again := w.repo.commit("only more patience", slower.manifests())
	if r := w.awaitRevision(again); r.State != "accepted" {
		t.Errorf("a commit that is well formed is %s: %v", r.State, r.Problems)
	}
	w.quiet("the content is still the one that failed")
	w.offered(0, bad, w.others())
	w.runs("v1", v1)

	t.Log("back to what everybody runs")
	before := w.offers()
	w.repo.commit("back to v1", good("v1"))
	w.await("v1 in force", 30*time.Second, w.rolloutIs(func(r rolloutView) bool {
		return r.Target == v1 && r.Phase == "Completed"
	}))
	if now := w.offers(); now != before {
		t.Errorf("a commit of what everybody runs made %d offers", now-before)
	}

	t.Log("YAML that does not parse")
	broken := w.repo.commit("does not parse", unparsable())
	r := w.awaitRevision(broken)
	if r.State != "rejected" || len(r.Problems) == 0 || !strings.HasPrefix(r.Problems[0], "configs/edge.yaml:") {
		t.Errorf("YAML that does not parse is %s: %v; want rejected, with a place in configs/edge.yaml", r.State, r.Problems)
	}
	w.quiet("the commit was rejected")
	w.runs("v1", v1)

	v3 := w.settled("v3")
	w.offered(1, v3, w.pairs)
	w.canariesWereFirst(v3, applyTimeout+canaryFirst().minHealthyTime)
}

// goesHome commits a change that must fail in the canary, waits until everybody
// runs stable again, and returns the hash that failed, how is the failure of at
// least one canary.
func (w *world) goesHome(version, stable string, change files, how string, more ...files) string {
	w.t.Helper()
	w.repo.commit("a bad one", append(more, change)...)
	failures := map[string]bool{}
	var r rolloutView
	w.await("rolled back", 90*time.Second, w.rolloutIs(func(now rolloutView) bool {
		for _, f := range now.Failing {
			failures[f.Failure] = true
		}
		if now.Target != stable && now.Wave != 0 {
			w.t.Errorf("the bad config got to wave %d", now.Wave)
		}
		r = now
		return now.Phase == "RolledBack"
	}))
	if !failures[how] {
		w.t.Errorf("agents failed in the ways %v, want %s among them", failures, how)
	}
	if r.Blocked == "" || r.Blocked == stable || r.Stable != stable {
		w.t.Errorf("after going home: %s; want stable %.8s and the bad config blocked", r.short(), stable)
	}
	received := 0
	for _, s := range w.canaries() {
		received += s.offersOf(r.Blocked)
	}
	if received == 0 {
		w.t.Errorf("no canary ever received %.8s", r.Blocked)
	}
	w.runs(version, stable)
	return r.Blocked
}

// A Collector that is killed while its new config soaks is not good for long
// enough: the wave fails, and everybody keeps or gets back what ran before.
func TestCollectorKilledDuringSoak(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4, 2)
	p := canaryFirst()
	v1 := w.settled("v1", p.manifests())

	// The Supervisor restarts the Collector 5 s after its end. With this there is
	// no time left to soak again.
	p.minHealthyTime, p.healthyDeadline, p.progressDeadline = 11*time.Second, 16*time.Second, 60*time.Second
	victim := w.canaries()[0]
	w.repo.commit("roll out v2 with care", good("v2"), p.manifests())
	w.await("the canary soaks", 60*time.Second, func() (bool, string) {
		byID, err := w.agents()
		if err != nil {
			return false, err.Error()
		}
		a := byID[victim.uid()]
		return a.Status == "applied" && a.Delivery != v1 && a.Delivery == a.Assigned && a.Result == "InFlight", victim.uid()
	})
	victim.killCollector()

	var v2 string
	failures := map[string]string{}
	w.await("rolled back", 90*time.Second, w.rolloutIs(func(r rolloutView) bool {
		for _, f := range r.Failing {
			failures[f.Agent] = f.Failure
		}
		v2 = r.Blocked
		return r.Phase == "RolledBack"
	}))
	if failures[victim.uid()] != "Timeout" {
		t.Errorf("failures are %v, want Timeout for %s", failures, victim.uid())
	}
	if v2 == "" || v2 == v1 {
		t.Errorf("%.8s is blocked, want v2", v2)
	}
	w.offered(0, v2, w.others())
	w.offered(1, v2, w.canaries())
	w.runs("v1", v1)
}
