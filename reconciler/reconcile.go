package reconciler

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/manifest"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// longGap is how long nobody may have watched before the time is taken out of
// every timer.
const longGap = time.Minute

// Reconcile compares what git asks for with what agents report and decides what to
// do next. It is pure, total, and a fixed point: reconciling the plan's State
// again in the same World, without the intents, changes nothing.
func Reconcile(s State, w World) Plan {
	if w.Set == nil {
		return wait(s, w)
	}
	own := w.Ownership
	plan := Plan{State: State{Watched: w.Now}}
	before := s
	if own == nil || own.set != w.Set {
		own = NewOwnership(w.Set, s, w.Agents)
		before = handOver(s, own)
	}
	plan.Ownership = own
	gap := time.Duration(0)
	if !s.Watched.IsZero() {
		if since := w.Now.Sub(s.Watched); since > longGap {
			gap = since
		}
	}
	commands, answers := sortIntents(w.Intents, own)
	plan.Answers = answers
	for i, name := range own.names {
		prev, known := before.Rollout(name)
		prev.Name = name
		in := rollout.Input{Now: w.Now, Gap: gap, Agents: own.owned[i], Commands: commands[name].list}
		if i < len(w.Set.Rollouts) {
			m := w.Set.Rollouts[i]
			in.Spec, in.Target, in.Revision = own.specs[i], m.Config.Hash, w.Set.Revision
		} else if !known {
			continue
		}
		out := rollout.Step(prev, in)
		for n, at := range commands[name].at {
			plan.Answers[at] = out.Answers[n]
		}
		plan.Events = append(plan.Events, out.Events...)
		if out.State.Orphaned && out.State.Ledger.Len() == 0 {
			continue // nobody has anything of it any more
		}
		plan.State.Rollouts = append(plan.State.Rollouts, out.State)
		plan.WakeAt = earlier(plan.WakeAt, out.WakeAt)
		plan.Status.Rollouts = append(plan.Status.Rollouts, describe(&out, own.owned[i]))
	}
	slices.SortFunc(plan.State.Rollouts, func(a, b rollout.State) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(plan.Status.Rollouts, func(a, b RolloutStatus) int { return cmp.Compare(a.Name, b.Name) })
	plan.Offers = Offers(plan.State, w.Agents)
	countFleet(&plan.Status, w, own)
	return plan
}

// wait is the plan while no commit has checked yet: nothing moves, what was
// assigned is still offered, and the time counts as not watched.
func wait(s State, w World) Plan {
	plan := Plan{State: s, Offers: Offers(s, w.Agents)}
	for range w.Intents {
		plan.Answers = append(plan.Answers, rollout.Answer{Refused: "no commit of the fleet repository is in force yet"})
	}
	for _, r := range s.Rollouts {
		var known []*fleet.Agent
		for i := range side(&r.Ledger, w.Agents) {
			known = append(known, w.Agents[i])
		}
		plan.Status.Rollouts = append(plan.Status.Rollouts, describe(&rollout.Output{State: r}, known))
	}
	countFleet(&plan.Status, w, nil)
	return plan
}

func countFleet(st *Status, w World, own *Ownership) {
	st.Agents = len(w.Agents)
	for _, a := range w.Agents {
		if a.Connected {
			st.Connected++
		}
	}
	if own != nil {
		st.Revision, st.Unmatched, st.Conflicting = w.Set.Revision, own.unmatched, own.conflicts
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// commandList is what people asked of one rollout, and where the answers go.
type commandList struct {
	list []rollout.Command
	at   []int
}

func sortIntents(intents []Intent, own *Ownership) (map[string]commandList, []rollout.Answer) {
	answers := make([]rollout.Answer, len(intents))
	lists := map[string]commandList{}
	for i, intent := range intents {
		if !slices.Contains(own.names, intent.Rollout) {
			answers[i].Refused = "there is no rollout named " + intent.Rollout
			continue
		}
		l := lists[intent.Rollout]
		l.list, l.at = append(l.list, intent.Command), append(l.at, i)
		lists[intent.Rollout] = l
	}
	return lists, answers
}

// handOver moves what must not be forgotten about agents whose owner changed to
// the ledger of the new owner: that they are disturbed, and what they refused. The
// old owner sees them as having left.
func handOver(s State, own *Ownership) State {
	moved := map[string][]rollout.Entry{}
	for _, r := range s.Rollouts {
		for i, e := range side(&r.Ledger, own.agents) {
			owner := own.owner[i]
			if owner < 0 || own.names[owner] == r.Name {
				continue
			}
			moved[own.names[owner]] = append(moved[own.names[owner]], rollout.Entry{
				Agent: e.Agent, Wave: -1, Refused: e.Refused, Shunned: e.Shunned,
				Dirty: e.Dirty, BaseGood: e.BaseGood, OfferedAt: e.OfferedAt,
			})
		}
	}
	if len(moved) == 0 {
		return s
	}
	out := State{Rollouts: slices.Clone(s.Rollouts), Watched: s.Watched}
	for _, name := range own.names {
		entries := moved[name]
		if len(entries) == 0 {
			continue
		}
		i := slices.IndexFunc(out.Rollouts, func(r rollout.State) bool { return r.Name == name })
		if i < 0 {
			out.Rollouts = append(out.Rollouts, rollout.State{Name: name})
			i = len(out.Rollouts) - 1
		}
		ledger := out.Rollouts[i].Ledger
		entries = slices.DeleteFunc(entries, func(e rollout.Entry) bool {
			_, known := ledger.Get(e.Agent)
			return known
		})
		out.Rollouts[i].Ledger = ledger.Apply(entries, nil)
	}
	return out
}

// side walks a ledger side by side with agents sorted by ID, and yields the index
// and the entry of every agent that has one.
func side(l *rollout.Ledger, agents []*fleet.Agent) iter.Seq2[int, *rollout.Entry] {
	return func(yield func(int, *rollout.Entry) bool) {
		i := 0
		for e := range l.All() {
			i = seek(agents, i, e.Agent)
			if i == len(agents) {
				return
			}
			if agents[i].ID == e.Agent && !yield(i, e) {
				return
			}
		}
	}
}

// seek returns the first index from from on whose agent is not before id. It is
// quick when that is near.
func seek(agents []*fleet.Agent, from int, id fleet.AgentID) int {
	step := 1
	low, high := from, from
	for high < len(agents) && agents[high].ID != id && agents[high].ID.Compare(id) < 0 {
		low = high + 1
		high += step
		step *= 2
	}
	high = min(high, len(agents))
	n, _ := slices.BinarySearchFunc(agents[low:high], id, func(a *fleet.Agent, id fleet.AgentID) int { return a.ID.Compare(id) })
	return low + n
}

// Assigned returns what the durable records say the agent should run, or false
// when it keeps what it has. It depends on nothing else, so that every process
// that sees the records comes to the same answer.
func Assigned(s State, id fleet.AgentID) (fleet.Delivery, bool) {
	for i := range s.Rollouts {
		if e, ok := s.Rollouts[i].Ledger.Get(id); ok {
			if d, ok := s.Rollouts[i].Assignment(&e); ok {
				return d, true
			}
		}
	}
	return fleet.Delivery{}, false
}

// Offers returns what to send, sorted by agent: to every connected agent that
// accepts remote configs the delivery the records assign to it, unless it says
// that it has it, is trying it, or refused it. Sending one twice is harmless.
func Offers(s State, agents []*fleet.Agent) []fleet.Offer {
	var offers []fleet.Offer
	for r := range s.Rollouts {
		for i, e := range side(&s.Rollouts[r].Ledger, agents) {
			if d, ok := s.Rollouts[r].Assignment(e); ok && wants(agents[i], d) {
				offers = append(offers, fleet.Offer{Agent: e.Agent, Delivery: d, At: e.OfferedAt})
			}
		}
	}
	if len(s.Rollouts) > 1 {
		slices.SortFunc(offers, func(a, b fleet.Offer) int { return a.Agent.Compare(b.Agent) })
	}
	return offers
}

// wants reports whether d should be sent to the agent. One that tells what it runs
// is offered nothing before it has told.
func wants(a *fleet.Agent, d fleet.Delivery) bool {
	switch {
	case !a.Connected || !a.Steerable() || a.LastFailed == d:
		return false
	case !a.Observable():
		return true
	}
	return a.Known && (a.Delivery != d || a.Status == fleet.Unset)
}

// Configs returns every content that the records may still have to deliver: it
// must be kept even when git no longer has it.
func Configs(s State) map[fleet.Hash]bool {
	keep := map[fleet.Hash]bool{}
	for _, r := range s.Rollouts {
		for _, h := range []fleet.Hash{r.Target, r.Stable} {
			if !h.IsZero() {
				keep[h] = true
			}
		}
	}
	return keep
}

var _ rollout.Matcher = (*manifest.Selector)(nil)
