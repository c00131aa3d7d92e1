package reconciler

import (
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/manifest"
	"github.com/bellwether-opamp/bellwether/rollout"
	"github.com/google/go-cmp/cmp"
)

const everything = fleet.ReportsStatus | fleet.AcceptsRemoteConfig | fleet.ReportsRemoteConfig | fleet.ReportsHealth

// world is a small fleet with a clock.
type world struct {
	t      *testing.T
	now    time.Time
	set    *manifest.Set
	agents []*fleet.Agent
	state  State
	own    *Ownership
	plan   Plan
}

func newWorld(t *testing.T, set *manifest.Set, labels ...fleet.Labels) *world {
	w := &world{t: t, now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), set: set}
	for i, l := range labels {
		w.agents = append(w.agents, &fleet.Agent{
			ID: fleet.AgentID{byte(i + 1)}, Labels: l, Capabilities: everything,
			Connected: true, Known: true, Healthy: true, Since: w.now.Add(-time.Hour),
		})
	}
	return w
}

func (w *world) step(intents ...Intent) Plan {
	w.t.Helper()
	in := World{Now: w.now, Set: w.set, Agents: w.agents, Ownership: w.own, Intents: intents}
	w.plan = Reconcile(w.state, in)
	in.Intents = nil
	again := Reconcile(w.plan.State, in)
	if diff := cmp.Diff(w.plan.State, again.State, cmp.Comparer(sameLedger), cmp.Comparer(func(a, b time.Time) bool { return a == b })); diff != "" || len(again.Events) > 0 {
		w.t.Fatalf("not a fixed point: %s%v", diff, again.Events)
	}
	w.state, w.own = w.plan.State, w.plan.Ownership
	return w.plan
}

func sameLedger(a, b rollout.Ledger) bool {
	changed, removed := a.Changes(b)
	return len(changed) == 0 && len(removed) == 0
}

// obey lets every agent apply what it is offered, and then time passes.
func (w *world) obey(d time.Duration) {
	for _, o := range w.plan.Offers {
		for _, a := range w.agents {
			if a.ID == o.Agent {
				a.Delivery, a.Status = o.Delivery, fleet.Applied
			}
		}
	}
	w.now = w.now.Add(d)
}

func (w *world) settle() {
	for range 50 {
		if len(w.step().Offers) == 0 && w.plan.WakeAt.IsZero() {
			return
		}
		w.obey(time.Second)
		if w.step(); len(w.plan.Offers) == 0 && !w.plan.WakeAt.IsZero() {
			w.now = w.plan.WakeAt
		}
	}
	w.t.Fatalf("does not settle: %+v", w.plan.Status)
}

func config(body string) fleet.Config { return fleet.NewConfig(fleet.File{Body: []byte(body)}) }

func spec() rollout.Spec {
	return rollout.Spec{
		Waves:          []rollout.Wave{{Name: "canary", Size: rollout.Size{Count: 1}}},
		MaxUnavailable: rollout.Size{Count: 10}, MinHealthyTime: 10 * time.Second,
		HealthyDeadline: time.Minute, ProgressDeadline: 5 * time.Minute, OnFailure: rollout.Pause,
	}
}

func TestARolloutReachesEverybody(t *testing.T) {
	set := &manifest.Set{Rollouts: []*manifest.Rollout{{Name: "edge", Selector: &manifest.Selector{}, Spec: spec(), Config: config("a")}}}
	w := newWorld(t, set, fleet.Labels{}, fleet.Labels{}, fleet.Labels{})
	plan := w.step()
	if len(plan.Offers) != 1 {
		t.Fatalf("offers: %+v", plan.Offers)
	}
	w.settle()
	if got := w.plan.Status.Rollouts[0]; got.Phase != rollout.Completed || got.Syncs[InSync] != 3 {
		t.Fatalf("status %+v", got)
	}
	for _, a := range w.agents {
		if d, ok := Assigned(w.state, a.ID); !ok || !a.Runs(d) {
			t.Errorf("agent %v: assigned %v %v", a.ID, d, ok)
		}
	}
}
