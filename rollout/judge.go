package rollout

import (
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// judgeAll takes in what agents report, in every phase. An entry about which there
// is nothing new is not touched.
func (t *tick) judgeAll() {
	t.disturbed, t.waves = 0, make([]tally, len(t.s.Waves))
	target, stable := t.s.TargetDelivery(), t.s.StableDelivery()
	t.each(func(a *fleet.Agent, e *Entry) {
		t.count(e, +1)
		if !a.LastFailed.IsZero() && a.LastFailed != e.Refused {
			t.noteTried(a.LastFailed)
		}
		if !t.quiet(a, e, target, stable) {
			t.put(e, t.judge(a, *e))
		}
	})
}

// quiet reports whether judge has nothing to say about the entry.
func (t *tick) quiet(a *fleet.Agent, e *Entry, target, stable fleet.Delivery) bool {
	switch {
	case e.Result == InFlight || e.Dirty:
		return false
	case !a.LastFailed.IsZero() && news(a, e, target, stable):
		return false
	case t.watched(e):
		return e.BadSince.IsZero() && a.Good(e.Assigned)
	case e.Assigned.IsZero():
		return true
	case !reachable(a):
		return e.Assigned == target || e.Assigned == stable
	}
	return !t.drifted(a, e)
}

// news reports whether the agent's last refusal is one that matters and has not
// been written down.
func news(a *fleet.Agent, e *Entry, target, stable fleet.Delivery) bool {
	d := a.LastFailed
	if d == e.Assigned {
		return true
	}
	return (d == target || d == stable) && d != e.Refused && d != e.Shunned
}

// watched reports whether the agent settled well in a running attempt, so that it
// may still regress.
func (t *tick) watched(e *Entry) bool {
	return t.s.Phase == Progressing && e.Result == OK && e.Moved
}

// drifted reports whether an agent that we are not moving runs something else
// than it is assigned, by itself.
func (t *tick) drifted(a *fleet.Agent, e *Entry) bool {
	moving := e.Result == InFlight || e.Dirty || (e.Moved && (t.s.Phase == Progressing || t.s.Phase == Paused))
	return !moving && !e.Assigned.IsZero() && a.Connected && a.Known &&
		(a.Status == fleet.Applied || a.Status == fleet.Unset) && a.Delivery != e.Assigned
}

// judge returns the entry after what the agent reports now. Every verdict is
// about the delivery that is assigned, and only our clock counts.
func (t *tick) judge(a *fleet.Agent, e Entry) Entry {
	if news(a, &e, t.s.TargetDelivery(), t.s.StableDelivery()) && !a.LastFailed.IsZero() {
		e = t.refuse(a, e)
	}
	if t.drifted(a, &e) {
		e.Assigned, e.Result, e.Failure = fleet.Delivery{}, Untouched, NoFailure
		e.BadSince = time.Time{}
	}
	e = t.soak(a, e)
	if e.Result == InFlight {
		e = t.deadline(a, e)
	}
	if t.watched(&e) {
		e = t.regress(a, e)
	}
	return t.sleep(a, e)
}

// refuse writes down a refusal and moves the assignment away from it: to stable,
// because the agent's disk may still hold what it refused, else to whatever it
// has.
func (t *tick) refuse(a *fleet.Agent, e Entry) Entry {
	d := a.LastFailed
	t.noteTried(d)
	e = t.shun(e, d)
	if d != e.Assigned {
		return e
	}
	if e.Result == InFlight || e.Result == OK {
		failure := Rejected
		if a.Connected && a.Known && a.Status == fleet.Applied && a.Delivery != d {
			failure = SelfReverted
		}
		e = t.fail(a, e, failure)
	}
	return t.away(a, e)
}

// shun remembers that d must not be sent to the agent again.
func (t *tick) shun(e Entry, d fleet.Delivery) Entry {
	if d == e.Refused || d == e.Shunned {
		return e
	}
	if e.Refused == t.s.StableDelivery() || e.Refused == t.s.TargetDelivery() {
		e.Shunned = e.Refused
	}
	e.Refused = d
	return e
}

// away moves the assignment away from what the agent does not want.
func (t *tick) away(a *fleet.Agent, e Entry) Entry {
	stable := t.s.StableDelivery()
	e.GoodSince = time.Time{}
	if stable.IsZero() || refused(a, &e, stable) {
		e.Assigned = fleet.Delivery{}
		return e
	}
	e.Assigned, e.OfferedAt = stable, t.now
	if !a.Runs(stable) {
		t.offers[OfferRollback]++
	}
	return e
}

func (t *tick) fail(a *fleet.Agent, e Entry, f Failure) Entry {
	e.Result, e.Failure, e.BadSince = Failed, f, time.Time{}
	text := a.Error
	if text == "" {
		text = a.HealthError
	}
	t.tell(Event{
		Kind: EventAgentFailed, Agent: e.Agent, Failure: f, Wave: t.waveName(e.Wave), Target: e.Assigned,
		Took: t.now.Sub(e.OfferedAt), Text: text,
	})
	return e
}

func (t *tick) waveName(i int16) string {
	if i < 0 || int(i) >= len(t.s.Waves) {
		return ""
	}
	return t.s.Waves[i].Name
}

// soak lets an agent settle well that has been good for minHealthyTime without a
// break (promise I3).
func (t *tick) soak(a *fleet.Agent, e Entry) Entry {
	if e.Result != InFlight && !e.Dirty {
		return e
	}
	if !fine(a, &e) {
		e.GoodSince = time.Time{}
		return e
	}
	if e.GoodSince.IsZero() {
		e.GoodSince = t.now
	}
	done := e.GoodSince.Add(t.spec.MinHealthyTime)
	if t.now.Before(done) {
		t.at(done)
		return e
	}
	if e.Result == InFlight {
		e.Result = OK
		t.tell(Event{
			Kind: EventAgentOK, Agent: e.Agent, Wave: t.waveName(e.Wave), Target: e.Assigned,
			Took: t.now.Sub(e.OfferedAt),
		})
	}
	e.Dirty, e.GoodSince = false, time.Time{}
	return e
}

// fine reports whether the agent is as it should be: good on what it is assigned
// or, when it was left with what it has, connected and healthy.
func fine(a *fleet.Agent, e *Entry) bool {
	if e.Assigned.IsZero() {
		return a.Connected && a.Known && !a.Settling() && healthy(a)
	}
	return a.Good(e.Assigned)
}

// deadline ends the flight of an agent that did not settle well in time.
func (t *tick) deadline(a *fleet.Agent, e Entry) Entry {
	if a.Connected && !a.Observable() {
		seen := e.OfferedAt.Add(t.spec.MinHealthyTime)
		if !t.now.Before(seen) {
			e.Result, e.Dirty = Inconclusive, false // it never tells: neither evidence nor failure
			return e
		}
		t.at(seen)
	}
	due := e.OfferedAt.Add(t.spec.HealthyDeadline)
	switch {
	case t.frozen:
		return e
	case t.now.Before(due):
		t.at(due)
		return e
	case !e.BaseGood:
		e.Result, e.Dirty = Inconclusive, false
		return e
	case a.Connected:
		return t.fail(a, e, Timeout)
	}
	return t.fail(a, e, Lost)
}

// regress follows an agent that settled well and became bad afterwards, while the
// attempt runs. An agent that has not told what it runs yet is neither.
func (t *tick) regress(a *fleet.Agent, e Entry) Entry {
	switch {
	case a.Good(e.Assigned):
		e.BadSince = time.Time{}
		return e
	case e.BadSince.IsZero() && a.Connected && !a.Known:
		return e
	case e.BadSince.IsZero():
		e.BadSince = t.now
	}
	due := e.BadSince.Add(t.spec.HealthyDeadline)
	if t.frozen || t.now.Before(due) {
		if !t.frozen {
			t.at(due)
		}
		return e
	}
	if a.Connected && a.Known && a.Status == fleet.Applied && a.Delivery != e.Assigned {
		t.noteTried(e.Assigned)
		e = t.shun(t.fail(a, e, SelfReverted), e.Assigned)
		e.Dirty = true
		return t.away(a, e)
	}
	e = t.fail(a, e, Regressed)
	e.Dirty = true
	return e
}

// sleep keeps an unreachable agent from waking up to a superseded config: after a
// while its assignment becomes stable (promise I17). What it wakes up with is then
// put right within the budget.
func (t *tick) sleep(a *fleet.Agent, e Entry) Entry {
	if reachable(a) || e.Assigned.IsZero() || e.Assigned == t.s.TargetDelivery() || e.Assigned == t.s.StableDelivery() {
		return e
	}
	if !t.patient(a) {
		e.Assigned = t.s.StableDelivery()
		if refused(a, &e, e.Assigned) {
			e.Assigned = fleet.Delivery{}
		}
	}
	return e
}

// patient reports whether an unreachable agent has been so for such a short time
// that it is waited for.
func (t *tick) patient(a *fleet.Agent) bool {
	until := a.Since.Add(min(patience, t.spec.MinHealthyTime))
	if t.now.Before(until) {
		t.at(until)
		return true
	}
	return false
}
