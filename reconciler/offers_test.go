package reconciler

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/manifest"
	"github.com/bellwether-opamp/bellwether/rollout"
)

func TestOffersAreComplete(t *testing.T) {
	d := fleet.Delivery{Config: fleet.Hash{1}}
	other := fleet.Delivery{Config: fleet.Hash{2}}
	for _, test := range []struct {
		name   string
		change func(*fleet.Agent)
		want   bool
	}{
		{"has said nothing about it", func(*fleet.Agent) {}, true},
		{"runs something else", func(a *fleet.Agent) { a.Delivery, a.Status = other, fleet.Applied }, true},
		{"refused something else, which is on its disk", func(a *fleet.Agent) {
			a.Delivery, a.Status, a.LastFailed = other, fleet.Failed, other
		}, true},
		{"runs it", func(a *fleet.Agent) { a.Delivery, a.Status = d, fleet.Applied }, false},
		{"is trying it", func(a *fleet.Agent) { a.Delivery, a.Status = d, fleet.Applying }, false},
		{"refused it", func(a *fleet.Agent) { a.Delivery, a.Status, a.LastFailed = d, fleet.Failed, d }, false},
		{"refused it and went back by itself", func(a *fleet.Agent) {
			a.Delivery, a.Status, a.LastFailed = other, fleet.Applied, d
		}, false},
		{"is offline", func(a *fleet.Agent) { a.Connected = false }, false},
		{"has not told what it runs", func(a *fleet.Agent) { a.Known = false }, false},
		{"never tells what it runs", func(a *fleet.Agent) {
			a.Known, a.Capabilities = false, fleet.AcceptsRemoteConfig
		}, true},
		{"accepts no remote config", func(a *fleet.Agent) { a.Capabilities = fleet.ReportsRemoteConfig }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := &fleet.Agent{ID: fleet.AgentID{1}, Capabilities: everything, Connected: true, Known: true, Healthy: true}
			test.change(a)
			s := State{Rollouts: []rollout.State{{
				Name: "edge", Target: d.Config, Stable: other.Config,
				Ledger: rollout.LedgerOf([]rollout.Entry{{Agent: a.ID, Assigned: d}}),
			}}}
			if got := len(Offers(s, []*fleet.Agent{a})) == 1; got != test.want {
				t.Errorf("offered: %v, want %v", got, test.want)
			}
		})
	}
}

// TestOnlyTargetOrStableIsAssigned: what a record names besides is kept, never sent.
func TestOnlyTargetOrStableIsAssigned(t *testing.T) {
	id, old := fleet.AgentID{1}, fleet.Delivery{Config: fleet.Hash{3}}
	s := State{Rollouts: []rollout.State{{
		Name: "edge", Target: fleet.Hash{1}, Attempt: 2, Stable: fleet.Hash{2},
		Ledger: rollout.LedgerOf([]rollout.Entry{{Agent: id, Assigned: old}}),
	}}}
	for _, d := range []fleet.Delivery{old, {Config: fleet.Hash{1}, Attempt: 1}} {
		s.Rollouts[0].Ledger = rollout.LedgerOf([]rollout.Entry{{Agent: id, Assigned: d}})
		if got, ok := Assigned(s, id); ok {
			t.Errorf("assigned %v", got)
		}
	}
	expect(t, "configs", Configs(s), map[fleet.Hash]bool{{1}: true, {2}: true})
}

// BenchmarkReconcile measures a tick of a completed fleet in which nothing happened.
func BenchmarkReconcile(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("steady/%d", n), func(b *testing.B) {
			s := spec()
			s.Waves, s.MaxUnavailable, s.MinHealthyTime = nil, rollout.Size{Percent: 100}, 0
			set := &manifest.Set{Rollouts: []*manifest.Rollout{{Name: "edge", Selector: &manifest.Selector{}, Spec: s, Config: config("a")}}}
			now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
			w := World{Now: now, Set: set}
			for i := range n {
				a := &fleet.Agent{Labels: fleet.Labels{"role": "edge"}, Capabilities: everything, Connected: true, Known: true, Healthy: true}
				binary.BigEndian.PutUint64(a.ID[:], uint64(i))
				w.Agents = append(w.Agents, a)
			}
			plan := Reconcile(State{}, w)
			for i, o := range plan.Offers {
				w.Agents[i].Delivery, w.Agents[i].Status = o.Delivery, fleet.Applied
			}
			plan = Reconcile(plan.State, w)
			if plan.State.Rollouts[0].Phase != rollout.Completed {
				b.Fatal(plan.Status.Rollouts[0].Reason)
			}
			w.Ownership = plan.Ownership
			b.ReportAllocs()
			for b.Loop() {
				Reconcile(plan.State, w)
			}
		})
	}
}
