package controller_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// answer lets agents report on every offer from the given one on, second after
// second, and returns how many there are now.
func (s *shell) answer(from, seconds int, status fleet.ApplyStatus) int {
	for range seconds {
		time.Sleep(time.Second)
		synctest.Wait()
		for _, o := range s.given()[from:] {
			s.says(o, status)
			from++
		}
	}
	return from
}

// The history of git was rewritten, the process restarts in the middle of a
// rollout that is about to fail, and only the new content is in git: the agents
// still go home, with the bytes that were stored.
func TestTheWayHomeOutlivesGit(t *testing.T) {
	manifest := strings.Replace(edgeManifest, "minHealthyTime: 5s", "minHealthyTime: 5s\n  onFailure: rollback", 1)
	synctest.Test(t, func(t *testing.T) {
		first := newShell(t, reconciler.State{})
		stop := first.run()
		first.hello(1)
		first.c.Snapshot(commit("c1", manifest, edgeConfig))
		answered := first.answer(0, 30, fleet.Applied)
		home, _ := first.view()
		if home.Phase != rollout.Completed || answered != 1 {
			t.Fatalf("phase %v after %d offers", home.Phase, answered)
		}
		first.c.Snapshot(commit("c2", manifest, edgeConfig+"# another\n"))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := len(first.given()); n != 2 {
			t.Fatalf("%d offers, want the second config's too", n)
		}
		bad := first.given()[1]
		if err := stop(); err != nil {
			t.Fatal(err)
		}

		second := newShell(t, first.commits[len(first.commits)-1])
		second.configs = first.configs // the store's, not git's
		if err := second.c.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop = second.run()
		second.observed <- first.commits[len(first.commits)-1]
		second.c.Snapshot(commit("rewritten", manifest, edgeConfig+"# another\n"))
		second.hello(1)
		second.says(bad, fleet.Failed)
		second.answer(0, 60, fleet.Applied)
		offers := second.given()
		if len(offers) == 0 || offers[len(offers)-1].Delivery.Config != home.Target {
			t.Fatalf("offers %v, want the last one to be of %s", offers, home.Target)
		}
		if _, ok := second.configs[home.Target]; !ok {
			t.Error("the config for going home was pruned")
		}
		if st, _ := second.view(); st.Phase != rollout.RolledBack || st.Stable != home.Target {
			t.Errorf("phase %v (%s), stable %s", st.Phase, st.Reason, st.Stable)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}
