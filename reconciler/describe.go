package reconciler

import (
	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// maxFailing is how many failing agents a status names.
const maxFailing = 20

// AgentStatus is one agent as people see it.
type AgentStatus struct {
	Rollout  string // that owns it; "" when none does
	Conflict bool   // two rollouts of one priority select it: nobody moves it
	Wave     string // of the running or last attempt; "" when it is no member
	Result   rollout.Result
	Failure  rollout.Failure
	Assigned fleet.Delivery // zero: it keeps what it has
	Sync     SyncState
	State    AgentState
}

// DescribeAgent returns what the records and the agent's own reports say about it.
// Without an ownership, before the first plan, the ledgers tell whose it is.
func DescribeAgent(s State, own *Ownership, a *fleet.Agent) AgentStatus {
	st := AgentStatus{State: stateOf(a), Sync: syncOf(a, nil, fleet.Delivery{}, false)}
	name, conflict, owned := own.Owner(a.ID)
	st.Rollout, st.Conflict = name, conflict
	for i := range s.Rollouts {
		r := &s.Rollouts[i]
		if owned && r.Name != name {
			continue
		}
		e, ok := r.Ledger.Get(a.ID)
		if !ok {
			continue
		}
		d, assigned := r.Assignment(&e)
		st.Rollout, st.Result, st.Failure = r.Name, e.Result, e.Failure
		if e.Wave >= 0 && int(e.Wave) < len(r.Waves) {
			st.Wave = r.Waves[e.Wave].Name
		}
		if assigned {
			st.Assigned = d
		}
		st.Sync = syncOf(a, &e, d, assigned)
		break
	}
	return st
}

func stateOf(a *fleet.Agent) AgentState {
	switch {
	case !a.Connected:
		return Offline
	case !a.Observable():
		return Unobservable
	case a.Healthy || !a.Capabilities.Has(fleet.ReportsHealth):
		return Healthy
	}
	return Unhealthy
}

func syncOf(a *fleet.Agent, e *rollout.Entry, d fleet.Delivery, assigned bool) SyncState {
	switch {
	case !a.Steerable() && !unseen(a):
		return Unsupported
	case !assigned && (a.Status == fleet.Failed || e != nil && e.Result == rollout.Failed && !a.Connected):
		return FailedSync
	case !assigned, a.Runs(d):
		return InSync
	case a.Delivery == d && a.Status == fleet.Applying:
		return ApplyingNow
	case a.LastFailed == d:
		return FailedSync
	case a.Connected && a.Known && e.Result == rollout.OK && a.Status == fleet.Applied:
		return Drifted
	}
	return Pending
}

// describe returns a rollout as people see it after a step, with the agents it
// owns.
func describe(out *rollout.Output, agents []*fleet.Agent) RolloutStatus {
	s := &out.State
	st := RolloutStatus{
		Name: s.Name, Phase: s.Phase, Hold: s.Hold, Reason: s.Reason,
		Target: s.Target, TargetRevision: s.TargetRevision, Attempt: s.Attempt,
		Stable: s.Stable, StableRevision: s.StableRevision, Blocked: s.Blocked,
		UserPaused: s.UserPaused, Orphaned: s.Orphaned,
		Wave: s.Wave, Budget: s.Budget, Agents: len(agents),
		States: map[AgentState]int{}, Syncs: map[SyncState]int{},
		StartedAt: s.StartedAt, PhaseAt: s.PhaseAt, ProgressAt: s.ProgressAt, WakeAt: out.WakeAt,
	}
	var states [len(stateWords)]int
	var syncs [len(syncWords)]int
	results := make([][6]int, len(s.Waves))
	for _, a := range agents {
		states[stateOf(a)]++
	}
	inLedger := 0
	for i, e := range side(&s.Ledger, agents) {
		inLedger++
		d, ok := s.Assignment(e)
		syncs[syncOf(agents[i], e, d, ok)]++
		if e.Dirty {
			st.Disturbed++
		}
		if e.Wave >= 0 && int(e.Wave) < len(results) {
			results[e.Wave][e.Result]++
		}
		if e.Result == rollout.Failed && len(st.Failing) < maxFailing {
			st.Failing = append(st.Failing, failing(s, agents[i], e))
		}
	}
	syncs[Unsupported] += len(agents) - inLedger
	for _, state := range AgentStates() {
		st.States[state] = states[state]
	}
	for _, sync := range SyncStates() {
		st.Syncs[sync] = syncs[sync]
	}
	for i, w := range s.Waves {
		ws := WaveStatus{Name: w.Name, Bake: w.Bake, Results: map[rollout.Result]int{}}
		for _, r := range rollout.Results() {
			ws.Results[r] = results[i][r]
			ws.Members += results[i][r]
		}
		st.Waves = append(st.Waves, ws)
	}
	return st
}

func failing(s *rollout.State, a *fleet.Agent, e *rollout.Entry) FailingAgent {
	f := FailingAgent{Agent: e.Agent, Failure: e.Failure, Message: a.Error}
	if f.Message == "" && !a.Healthy {
		f.Message = a.HealthError
	}
	if e.Wave >= 0 && int(e.Wave) < len(s.Waves) {
		f.Wave = s.Waves[e.Wave].Name
	}
	return f
}
