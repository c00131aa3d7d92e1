package rollout

import (
	"slices"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

const (
	grace     = 2 * time.Minute  // after a gap: nobody is offered anything or fails
	returning = 2 * time.Minute  // how long agents that only the records know may take to come back
	patience  = 30 * time.Second // at most this long an unreachable agent is waited for before it is deferred
)

// tick is one call of [Step]: the state as it becomes, and what was counted on
// the way. Every change of an entry goes through put, which keeps the counts.
type tick struct {
	in   Input
	spec *Spec
	now  time.Time
	s    State
	edit *Editor
	out  Output

	held   Hold // by a person, or because we or the fleet are not ready; NoHold: free to act
	absent bool // we were away, or the fleet has not come back to us yet
	lost   bool // the network is ill
	frozen bool // absent or lost: nobody's deadline runs
	gone   int  // untouched agents of the baseline that are gone
	base   int  // agents of the baseline

	disturbed int
	waves     []tally
	offers    [len(offerNames)]int // not told yet
}

// tally counts the agents of one wave.
type tally struct {
	n   [len(resultNames)]int
	bad int // OK, and not good now
}

func (w *tally) members() int {
	sum := 0
	for _, n := range w.n {
		sum += n
	}
	return sum
}

func (w *tally) settled() int { return w.n[OK] + w.n[Failed] + w.n[Inconclusive] }

func newTick(prev State, in Input) *tick {
	return &tick{in: in, spec: in.Spec, now: in.Now, s: prev, edit: prev.Ledger.Edit()}
}

// output closes the tick.
func (t *tick) output() Output {
	t.tellOffers()
	t.s.Budget = t.budget()
	t.s.Reason = t.reason()
	t.s.Ledger = t.edit.Ledger()
	t.out.State = t.s
	return t.out
}

// orphan is the tick of a rollout that git no longer declares: nothing is
// offered, agents keep what they have, and people are told so.
func (t *tick) orphan() Output {
	for range t.in.Commands {
		t.out.Answers = append(t.out.Answers, Answer{Refused: "the fleet repository no longer declares this rollout"})
	}
	t.s.Orphaned = true
	t.s.Reason = "The fleet repository no longer declares this rollout; its agents keep what they have."
	t.s.Ledger = t.edit.Ledger()
	t.out.State = t.s
	return t.out
}

// each walks agents and entries side by side: both are sorted, and after
// rollCall every entry has its agent.
func (t *tick) each(visit func(a *fleet.Agent, e *Entry)) {
	i := 0
	for e := range t.edit.All() {
		for t.in.Agents[i].ID != e.Agent {
			i++
		}
		visit(t.in.Agents[i], e)
	}
}

// put replaces an entry and keeps the counts.
func (t *tick) put(was *Entry, e Entry) {
	t.count(was, -1)
	t.count(&e, +1)
	t.edit.Put(e)
}

func (t *tick) count(e *Entry, by int) {
	if e.Dirty {
		t.disturbed += by
	}
	if e.Wave < 0 || int(e.Wave) >= len(t.waves) {
		return
	}
	w := &t.waves[e.Wave]
	w.n[e.Result] += by
	if e.Result == OK && !e.BadSince.IsZero() {
		w.bad += by
	}
}

// recount counts everything afresh: once for each tick, and after a start.
func (t *tick) recount() {
	t.disturbed, t.waves = 0, make([]tally, len(t.s.Waves))
	for e := range t.edit.All() {
		t.count(e, +1)
	}
}

// at asks to be stepped again at a moment. Moments that are past were acted on,
// or wait for something else than time.
func (t *tick) at(moment time.Time) {
	if moment.After(t.now) && (t.out.WakeAt.IsZero() || moment.Before(t.out.WakeAt)) {
		t.out.WakeAt = moment
	}
}

func (t *tick) tell(e Event) {
	e.At, e.Rollout = t.now, t.s.Name
	t.out.Events = append(t.out.Events, e)
}

func (t *tick) tellOffers() {
	for kind, n := range t.offers {
		if n == 0 {
			continue
		}
		e := Event{Kind: EventOffered, Offer: OfferKind(kind), Count: n, Target: t.s.StableDelivery()}
		if e.Offer == OfferWave {
			e.Target, e.Wave = t.s.TargetDelivery(), t.s.Waves[t.s.Wave].Name
		}
		t.tell(e)
		t.offers[kind] = 0
	}
}

func (t *tick) setPhase(p Phase) {
	if t.s.Phase == p {
		return
	}
	t.tellOffers()
	t.tell(Event{Kind: EventPhase, Phase: p, From: t.s.Phase, Target: t.s.TargetDelivery()})
	t.s.Phase, t.s.PhaseAt = p, t.now
	t.s.HeldAt = time.Time{}
}

// setHold tells why nothing moves. In Progressing, every hold but NoEvidence
// stops the progress deadline: it goes on where it was once the hold ends.
func (t *tick) setHold(h Hold) {
	if h != t.s.Hold {
		t.s.Hold = h
		t.tell(Event{Kind: EventHold, Hold: h})
	}
	if t.s.Phase != Progressing {
		return
	}
	stops := h != NoHold && h != NoEvidence
	switch {
	case stops && t.s.HeldAt.IsZero():
		t.s.HeldAt = t.now
	case !stops && !t.s.HeldAt.IsZero():
		t.s.ProgressAt = t.s.ProgressAt.Add(t.now.Sub(t.s.HeldAt))
		t.s.HeldAt = time.Time{}
	}
}

// budget is how many agents may be disturbed at once: maxUnavailable of the total
// that was frozen at the start, or of the agents there are when no attempt runs.
//
// Example: maxUnavailable 10% of 25 agents is 2. Two agents are in flight, so none
// is offered; one becomes good, so one is. A commit supersedes: the two in flight
// stay disturbed, their repair costs nothing, and nobody else goes with them until
// one of them is good (testdata/budget.txt).
func (t *tick) budget() int {
	total := 0
	if t.s.Phase != Completed && t.s.Phase != RolledBack {
		for _, w := range t.s.Waves {
			total += w.Members
		}
	}
	if total == 0 {
		total = t.edit.ledger.Len()
	}
	return t.spec.MaxUnavailable.Limit(total)
}

func (t *tick) free() int { return t.budget() - t.disturbed }

// reachable reports whether an offer would arrive and its effect be seen: the
// agent is connected and, if it ever tells, has told what it runs.
func reachable(a *fleet.Agent) bool {
	return a.Connected && (a.Known || !a.Observable())
}

// unseen reports whether only our records know the agent: we restarted, and it
// has not come back yet, or not yet said what it can do.
func unseen(a *fleet.Agent) bool { return a.Capabilities == 0 }

func healthy(a *fleet.Agent) bool {
	return a.Healthy || !a.Capabilities.Has(fleet.ReportsHealth)
}

// refused reports whether the agent ever said FAILED to d, as far as anybody
// remembers: then d is never sent to it again.
func refused(a *fleet.Agent, e *Entry, d fleet.Delivery) bool {
	return d == e.Refused || d == e.Shunned || d == a.LastFailed
}

// maxTried bounds State.Tried; the oldest is forgotten first.
const maxTried = 32

// noteTried remembers that a delivery must not be the name of a later attempt.
func (t *tick) noteTried(d fleet.Delivery) {
	i := slices.IndexFunc(t.s.Tried, func(o fleet.Delivery) bool { return o.Config == d.Config })
	if i >= 0 && t.s.Tried[i].Attempt >= d.Attempt {
		return
	}
	tried := slices.Clone(t.s.Tried)
	if i >= 0 {
		tried = slices.Delete(tried, i, i+1)
	}
	tried = append(tried, d)
	t.s.Tried = slices.Clip(tried[max(0, len(tried)-maxTried):])
}
