package reconciler

import (
	"strings"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/manifest"
	"github.com/bellwether-opamp/bellwether/rollout"
	"github.com/google/go-cmp/cmp"
)

// parse is a set as the fleet repository would declare it.
func parse(t *testing.T, manifests string) *manifest.Set {
	t.Helper()
	const config = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {debug: }\nservice: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}\n"
	set, problems := manifest.Parse(fleet.Snapshot{
		Revision: fleet.Revision{ID: "r1"}, Root: ".",
		Files: []fleet.Source{
			{Path: "a.yaml", Body: []byte(config)},
			{Path: "b.yaml", Body: []byte(config + "# other\n")},
			{Path: "m.yaml", Body: []byte(manifests)},
		},
	}, manifest.Options{})
	if set == nil {
		t.Fatal(problems)
	}
	return set
}

const two = `apiVersion: bellwether.dev/v1alpha1
kind: Rollout
metadata: {name: edge}
spec:
  selector: {matchLabels: {role: edge}}
  config: a.yaml
  waves: [{name: canary, size: 1, selector: {matchLabels: {ring: canary}}}]
  maxUnavailable: 100%
---
apiVersion: bellwether.dev/v1alpha1
kind: Rollout
metadata: {name: gateway}
spec:
  selector: {matchExpressions: [{key: role, operator: Exists}]}
  config: b.yaml
  priority: PRIORITY
  waves: [{name: all}]
  maxUnavailable: 100%
---
apiVersion: bellwether.dev/v1alpha1
kind: Labels
spec:
  - {match: {host.name: web-1}, set: {ring: canary, role: nothing}}
`

func twoRollouts(t *testing.T, priority string) *manifest.Set {
	return parse(t, strings.ReplaceAll(two, "PRIORITY", priority))
}

func owners(w *world) []string {
	var got []string
	for _, a := range w.agents {
		name, conflict, ok := w.own.Owner(a.ID)
		switch {
		case conflict:
			name = "conflict"
		case !ok:
			name = "nobody"
		}
		got = append(got, name)
	}
	return got
}

func expect[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestTheHigherPriorityOwns(t *testing.T) {
	w := newWorld(t, twoRollouts(t, "-1"), fleet.Labels{"role": "edge"}, fleet.Labels{"role": "gw"}, fleet.Labels{"x": "y"})
	w.step()
	expect(t, "owners", owners(w), []string{"edge", "gateway", "nobody"})
	expect(t, "unmatched", w.plan.Status.Unmatched, 1)
	w.settle()
	for i, want := range []SyncState{InSync, InSync, InSync} {
		got := DescribeAgent(w.state, w.own, w.agents[i])
		expect(t, "sync", got.Sync, want)
	}
	if d, ok := Assigned(w.state, w.agents[2].ID); ok {
		t.Errorf("an unmatched agent is assigned %v", d)
	}
}

func TestATieIsAConflictAndNobodyMovesTheAgent(t *testing.T) {
	w := newWorld(t, twoRollouts(t, "0"), fleet.Labels{"role": "edge"}, fleet.Labels{"role": "gw"})
	w.step()
	expect(t, "owners", owners(w), []string{"conflict", "gateway"})
	expect(t, "conflicting", w.plan.Status.Conflicting, 1)
	for _, o := range w.plan.Offers {
		if o.Agent == w.agents[0].ID {
			t.Error("a contested agent is offered something")
		}
	}
	if !DescribeAgent(w.state, w.own, w.agents[0]).Conflict {
		t.Error("the conflict is not told")
	}
}

// TestLabelsFromGit shows that a wave's selector sees labels set from git, and
// that these never override what an agent reports.
func TestLabelsFromGit(t *testing.T) {
	w := newWorld(t, twoRollouts(t, "-1"), fleet.Labels{"role": "edge"}, fleet.Labels{"role": "edge", "host.name": "web-1"})
	w.step()
	expect(t, "owners", owners(w), []string{"edge", "edge"})
	expect(t, "wave", DescribeAgent(w.state, w.own, w.agents[1]).Wave, "canary")
	expect(t, "wave", DescribeAgent(w.state, w.own, w.agents[0]).Wave, rollout.Rest)
}

func TestAnAgentMovesToAnotherRollout(t *testing.T) {
	w := newWorld(t, twoRollouts(t, "-1"), fleet.Labels{"role": "edge"}, fleet.Labels{"role": "gw"}, fleet.Labels{"role": "edge"})
	w.settle()
	was := w.agents[0].Delivery
	w.agents[0].Labels = fleet.Labels{"role": "gw"}
	w.own = nil
	w.settle()
	gateway, _ := w.state.Rollout("gateway")
	if got := w.agents[0].Delivery; got == was || got != gateway.StableDelivery() {
		t.Errorf("agent runs %v, want %v", got.Short(), gateway.StableDelivery().Short())
	}
	edge, _ := w.state.Rollout("edge")
	expect(t, "edge's ledger", edge.Ledger.Len(), 1)
}

// TestAnUnselectedAgentKeepsWhatItHas: no longer selected means nothing is sent.
func TestAnUnselectedAgentKeepsWhatItHas(t *testing.T) {
	w := newWorld(t, twoRollouts(t, "-1"), fleet.Labels{"role": "edge"}, fleet.Labels{"role": "edge"})
	w.settle()
	w.agents[0].Labels = fleet.Labels{}
	w.agents[0].Delivery = fleet.Delivery{Config: fleet.Hash{9}}
	w.own = nil
	plan := w.step()
	expect(t, "offers", len(plan.Offers), 0)
	if d, ok := Assigned(w.state, w.agents[0].ID); ok {
		t.Errorf("assigned %v", d)
	}
}

// TestOrphans: a rollout that git no longer declares offers nothing, is shown for
// as long as somebody has something of it, and goes on when it is declared again.
func TestOrphans(t *testing.T) {
	set := twoRollouts(t, "-1")
	w := newWorld(t, set, fleet.Labels{"role": "edge"}, fleet.Labels{"role": "edge"})
	w.step()
	w.obey(time.Second)
	w.set = &manifest.Set{Revision: fleet.Revision{ID: "r2"}}
	plan := w.step()
	expect(t, "offers", len(plan.Offers), 0)
	expect(t, "rollouts", len(plan.Status.Rollouts), 1)
	expect(t, "orphaned", plan.Status.Rollouts[0].Orphaned, true)
	plan = w.step(Intent{Rollout: "edge"}, Intent{Rollout: "nonsense"})
	for i, a := range plan.Answers {
		if a.Refused == "" {
			t.Errorf("intent %d was not refused", i)
		}
	}
	w.set = set
	w.settle()
	edge, _ := w.state.Rollout("edge")
	expect(t, "phase", edge.Phase, rollout.Completed)

	w.set = &manifest.Set{}
	w.agents = nil
	w.own = nil
	w.step()
	expect(t, "rollouts", len(w.state.Rollouts), 0)
}

// TestARestartKeepsAgentsWithTheirRollout: agents that only the records know have
// no labels, and stay where they are.
func TestARestartKeepsAgentsWithTheirRollout(t *testing.T) {
	w := newWorld(t, twoRollouts(t, "-1"), fleet.Labels{"role": "edge"}, fleet.Labels{"role": "gw"})
	w.settle()
	before := w.state
	for i, a := range w.agents {
		w.agents[i] = &fleet.Agent{ID: a.ID, Since: w.now}
	}
	w.own = nil
	w.step()
	expect(t, "owners", owners(w), []string{"edge", "gateway"})
	for i, r := range w.state.Rollouts {
		if !sameLedger(r.Ledger, before.Rollouts[i].Ledger) {
			t.Errorf("the ledger of %s changed", r.Name)
		}
	}
}

func TestNothingMovesBeforeTheFirstCommit(t *testing.T) {
	w := newWorld(t, nil, fleet.Labels{"role": "edge"})
	plan := w.step(Intent{Rollout: "edge"})
	if plan.Answers[0].Refused == "" || len(plan.Offers) > 0 || len(plan.State.Rollouts) > 0 {
		t.Errorf("plan %+v", plan)
	}
	expect(t, "agents", plan.Status.Agents, 1)
}

// TestAGapIsNobodysFault: what was not watched is taken out of the timers.
func TestAGapIsNobodysFault(t *testing.T) {
	w := newWorld(t, twoRollouts(t, "-1"), fleet.Labels{"role": "edge"}, fleet.Labels{"role": "edge"})
	w.step()
	w.now = w.now.Add(time.Hour)
	plan := w.step()
	expect(t, "hold", plan.Status.Rollouts[0].Hold, rollout.ControllerRestart)
	expect(t, "phase", plan.Status.Rollouts[0].Phase, rollout.Progressing)
}

// TestAnAgentThatDoesNotRepeatItselfKeepsItsPlace: we restart, and the first
// message of an agent leaves out what has not changed since the last one.
func TestAnAgentThatDoesNotRepeatItselfKeepsItsPlace(t *testing.T) {
	w := newWorld(t, twoRollouts(t, "-1"), fleet.Labels{"role": "edge"}, fleet.Labels{"role": "edge"})
	w.settle()
	edge, _ := w.state.Rollout("edge")
	before := edge.Ledger.Len()
	a := w.agents[0]
	was := *a
	for _, capabilities := range []fleet.Capabilities{was.Capabilities, 0} { // polls may leave them out, too
		*a = fleet.Agent{ID: was.ID, Connected: true, Since: w.now, Capabilities: capabilities}
		w.own = nil
		w.step()
		edge, _ = w.state.Rollout("edge")
		expect(t, "edge's ledger", edge.Ledger.Len(), before)
	}
	*a = was
	w.own = nil
	w.step()
	for _, o := range w.plan.Offers {
		t.Errorf("offered %v to %v: it runs what it should", o.Delivery.Short(), o.Agent)
	}
}

// TestAnUndescribedStrangerIsNobodys: a selector that only excludes would match
// labels that are not known yet.
func TestAnUndescribedStrangerIsNobodys(t *testing.T) {
	set := parse(t, strings.NewReplacer("operator: Exists", "operator: DoesNotExist", "PRIORITY", "-1").Replace(two))
	w := newWorld(t, set, nil, fleet.Labels{})
	w.step()
	expect(t, "owners", owners(w), []string{"nobody", "gateway"})
}
