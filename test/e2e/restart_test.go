//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"
)

// The server is stopped in the canary and killed in the next wave. Each time it
// goes on where it was: nobody is offered anything twice or out of turn.
func TestServeRestartMidRollout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6, 2)
	p := canaryFirst()
	p.maxUnavailable = 2
	v1 := w.settled("v1", p.manifests())

	w.repo.commit("roll out v2", good("v2"))
	w.await("v2 in flight in the canary", 30*time.Second, w.rolloutIs(inFlight(0, v1)))
	w.server.terminate()
	w.server.start()
	w.await("v2 in flight in the rest", 150*time.Second, w.rolloutIs(inFlight(1, v1)))
	w.server.kill()
	w.server.start()
	var r rolloutView
	w.await("v2 Completed", 240*time.Second, w.rolloutIs(func(now rolloutView) bool {
		r = now
		if now.Disturbed > p.maxUnavailable {
			t.Errorf("%d disturbed, want at most %d", now.Disturbed, p.maxUnavailable)
		}
		return now.Phase == "Completed" && now.Target != v1
	}))
	w.runs("v2", r.Target)
	w.offered(1, v1, w.pairs)
	w.offered(1, r.Target, w.pairs)
	w.canariesWereFirst(r.Target, applyTimeout+p.minHealthyTime)

	t.Log("restarted with nothing to do")
	w.server.terminate()
	w.server.start()
	w.await("every agent back", 60*time.Second, w.allAre(func(a agentView) bool { return a.Connected && a.Healthy }))
	w.quiet("nothing has changed")
	w.runs("v2", r.Target)
}

// inFlight wants a wave with agents in flight towards something else than old.
func inFlight(wave int, old string) func(rolloutView) bool {
	return func(r rolloutView) bool {
		return r.Target != old && r.Wave == wave && len(r.Waves) > wave && r.Waves[wave].Results["InFlight"] > 0
	}
}

// A bad commit pauses the rollout. Who refused it is given the last good config all
// the same, for its disk holds the bad one: a Supervisor that is restarted now comes
// up with the good one, and the bad one is not offered to it again.
func TestSupervisorRestartAfterFailedConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4, 2)
	p := canaryFirst()
	p.onFailure = "pause"
	v1 := w.settled("v1", p.manifests())

	w.repo.commit("a bad one", unknownExporter("v2"))
	var bad string
	w.await("Paused", 90*time.Second, w.rolloutIs(func(r rolloutView) bool {
		bad = r.Target
		return r.Phase == "Paused" && bad != v1
	}))
	w.runs("v1", v1)
	w.offered(0, bad, w.others())
	w.offered(1, bad, w.canaries())

	for _, s := range w.canaries() {
		w.restarts(s)
	}
	w.runs("v1", v1)
	w.quiet("the content has failed")
	w.offered(1, bad, w.canaries())
	w.offered(1, w.settled("v3"), w.pairs)
}

// The very first config is bad and there is nothing to go home to: the canaries
// crash on, and hold the bad config on disk. A restarted Supervisor comes up all
// the same, is not given the bad config again, and the next good commit repairs it.
func TestSupervisorRestartWithNothingToGoHomeTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4, 2)
	w.repo.commit("bad from the start", canaryFirst().manifests(), unknownExporter("v1"))
	var bad string
	w.await("Paused, with nothing to go home to", 90*time.Second, w.rolloutIs(func(r rolloutView) bool {
		bad = r.Target
		return r.Phase == "Paused" && r.Stable == ""
	}))
	w.offered(0, bad, w.others())
	for _, s := range w.canaries() {
		if s.offersOf(bad) > 0 {
			if !s.stored(bad) {
				t.Errorf("%s does not hold the bad config: nothing is left to test", s.name)
			}
			w.restarts(s)
		}
	}
	w.quiet("the only content has failed")
	w.offered(1, w.settled("v2"), w.pairs)
	for _, s := range w.canaries() {
		if n := s.offersOf(bad); n > 1 {
			t.Errorf("%s received the bad config %d times", s.name, n)
		}
	}
}

// restarts stops a Supervisor, waits until the server has seen it go, starts it
// again and waits until the server has its status again.
func (w *world) restarts(s *supervisor) {
	w.t.Helper()
	if err := s.interrupt(); err != nil {
		w.t.Fatal(err)
	}
	is := func(wanted func(agentView) bool) check {
		return func() (bool, string) {
			byID, err := w.agents()
			a, ok := byID[s.uid()]
			return err == nil && ok && wanted(a), fmt.Sprintf("%+v %v", a, err)
		}
	}
	w.await(s.name+" gone", 30*time.Second, is(func(a agentView) bool { return !a.Connected }))
	s.start()
	w.await(s.name+" back", 30*time.Second, is(func(a agentView) bool { return a.Connected && a.Status != "unset" }))
}
