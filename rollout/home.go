package rollout

import (
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// turnBack sends everybody home. Agents in flight become part of the way home;
// who failed keeps its verdict, so that people see what it was.
func (t *tick) turnBack() {
	t.s.BakeAt, t.s.SkipBake = time.Time{}, false
	t.setPhase(RollingBack)
	t.calm()
}

// goHome gives stable to everybody: who is disturbed at once and free, the rest
// within the budget, without waves, bakes or windows, and whether or not a person
// paused the rollout. Unreachable agents are re-assigned and not waited for; a
// reachable one is waited for until its healthyDeadline (promise I4).
func (t *tick) goHome() {
	if t.absent {
		t.setHold(ControllerRestart)
		return
	}
	blocked := t.offerHome()
	waiting := 0
	t.each(func(a *fleet.Agent, e *Entry) {
		due := e.OfferedAt.Add(t.spec.HealthyDeadline)
		if e.Result == InFlight {
			t.at(due) // also of those that are gone: a freeze may have ended just now
		}
		if e.Dirty && e.Assigned == t.s.StableDelivery() && reachable(a) && t.now.Before(due) {
			t.at(due)
			waiting++
		}
	})
	switch {
	case waiting > 0:
		t.setHold(NoHold)
	case blocked > 0:
		t.setHold(BudgetExhausted)
	case t.s.Target == t.s.Stable:
		t.setHold(NoHold)
		t.setPhase(Completed)
	default:
		t.setHold(NoHold)
		t.setPhase(RolledBack)
	}
}

func (t *tick) offerHome() (blocked int) {
	stable := t.s.StableDelivery()
	var queue []candidate
	t.each(func(a *fleet.Agent, e *Entry) {
		switch {
		case e.Assigned == stable:
		case refused(a, e, stable):
			if e.Assigned.IsZero() {
				return
			}
			next := *e
			next.Assigned, next.GoodSince = fleet.Delivery{}, time.Time{}
			if next.Result == InFlight {
				next.Result = Inconclusive // nowhere to go: it keeps what it has, which proves nothing
			}
			t.put(e, t.soak(a, next))
		case !reachable(a):
			next := *e
			next.Assigned, next.OfferedAt, next.GoodSince = stable, t.now, time.Time{}
			if next.Result == Deferred || next.Result == OK {
				next.Result = Untouched
			}
			t.put(e, next)
		case e.Dirty || a.Runs(stable):
			t.assign(a, e, stable, OfferRollback)
		default:
			queue = append(queue, candidate{at: len(queue), agent: a})
		}
	})
	return t.offerSome(queue, stable, OfferRollback)
}

// steady keeps everybody on stable when no attempt runs: joiners, returners and
// agents that drifted, within the budget, never what an agent refused.
func (t *tick) steady() {
	hold := t.held
	if hold == NoHold {
		t.keep(func(*Entry) bool { return true })
	}
	t.setHold(hold)
}

// welcome gives stable to agents that joined while an attempt runs or is stopped;
// they are no members of it and get its target once it is stable.
func (t *tick) welcome() {
	if t.held == NoHold {
		t.keep(func(e *Entry) bool { return e.Wave < 0 && e.Assigned.IsZero() })
	}
}

func (t *tick) keep(who func(*Entry) bool) {
	stable := t.s.StableDelivery()
	if stable.IsZero() {
		return
	}
	var queue []candidate
	t.each(func(a *fleet.Agent, e *Entry) {
		switch {
		case e.Assigned == stable:
		case !reachable(a):
			if next := t.sleep(a, *e); next != *e {
				t.put(e, next)
			}
		case !who(e) || refused(a, e, stable):
		case e.Dirty || a.Runs(stable):
			t.assign(a, e, stable, OfferSteady)
		default:
			queue = append(queue, candidate{at: len(queue), agent: a})
		}
	})
	t.offerSome(queue, stable, OfferSteady)
}
