package rollout

import (
	"slices"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/google/go-cmp/cmp"
)

// same reports whether nothing durable differs.
func same(a, b State) bool {
	changed, removed := a.Ledger.Changes(b.Ledger)
	if len(changed)+len(removed) > 0 {
		return false
	}
	if !slices.Equal(a.Waves, b.Waves) || !slices.Equal(a.Tried, b.Tried) {
		return false
	}
	a.Ledger, b.Ledger, a.Waves, b.Waves, a.Tried, b.Tried = Ledger{}, Ledger{}, nil, nil, nil, nil
	return headerOf(a) == headerOf(b)
}

// restarted reports whether the step began a new attempt.
func (l look) restarted() bool {
	return slices.ContainsFunc(l.out.Events, func(e Event) bool { return e.Kind == EventStarted })
}

// given returns entries that were assigned d in this step and were not before.
func (l look) given(d fleet.Delivery) (given []Entry) {
	for e := range l.next.Ledger.All() {
		was, _ := l.prev.Ledger.Get(e.Agent)
		if e.Assigned == d && was.Assigned != d && !d.IsZero() {
			given = append(given, *e)
		}
	}
	return given
}

// results counts the members of each wave by result.
func results(s State) [][6]int {
	n := make([][6]int, len(s.Waves))
	for e := range s.Ledger.All() {
		if e.Wave >= 0 {
			n[e.Wave][e.Result]++
		}
	}
	return n
}

func sum(n [6]int) int { return n[0] + n[1] + n[2] + n[3] + n[4] + n[5] }

func TestI01WaveOrder(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			target := l.next.TargetDelivery()
			if target == l.next.StableDelivery() {
				return
			}
			n := results(l.next)
			for _, e := range l.given(target) {
				if int(e.Wave) > l.next.Wave || e.Wave < 0 {
					fail("agent %v of wave %d was given the target in wave %d", e.Agent, e.Wave, l.next.Wave)
				}
				for i := range e.Wave {
					if n[i][Untouched] > 0 || n[i][InFlight] > 0 {
						fail("agent %v of wave %d was given the target, wave %d has not settled", e.Agent, e.Wave, i)
					}
				}
			}
			for id, d := range l.offers {
				e, _ := l.next.Ledger.Get(id)
				if d == target && (e.Wave < 0 || int(e.Wave) > l.next.Wave) {
					fail("agent %v of wave %d is offered the target in wave %d", id, e.Wave, l.next.Wave)
				}
			}
		}
	})
}

// TestI02Disturbance counts from the outside: an agent is disturbed from the
// moment an offer leaves for it until it has been good on what it is assigned for
// minHealthyTime, was found to have been bad before, or has left; and again when
// it regresses.
func TestI02Disturbance(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		disturbed := map[fleet.AgentID]time.Time{} // since when good; zero: not good
		return func(l look) {
			present := map[fleet.AgentID]bool{}
			for _, a := range l.agents {
				present[a.ID] = true
				was, _ := l.prev.Ledger.Get(a.ID)
				e, _ := l.next.Ledger.Get(a.ID)
				if was.Result == OK && (e.Result == Failed || l.restarted() && e.Dirty) {
					disturbed[a.ID] = time.Time{} // it took our config well, and then suffered
				}
				since, ok := disturbed[a.ID]
				if !ok {
					continue
				}
				good := goodOn(a, was.Assigned)
				switch {
				case was.Result == InFlight && !e.Dirty && !was.BaseGood:
					delete(disturbed, a.ID)
				case !good:
					disturbed[a.ID] = time.Time{}
				case since.IsZero() || l.in.Gap > 0:
					disturbed[a.ID] = l.in.Now
				}
				if since := disturbed[a.ID]; !since.IsZero() && l.in.Now.Sub(since) >= l.in.Spec.MinHealthyTime {
					delete(disturbed, a.ID)
				}
				if _, ok := disturbed[a.ID]; ok && was.Assigned != e.Assigned {
					disturbed[a.ID] = time.Time{}
					if goodOn(a, e.Assigned) {
						disturbed[a.ID] = l.in.Now
					}
				}
			}
			for id := range disturbed {
				if !present[id] {
					delete(disturbed, id)
				}
			}
			fresh := 0
			for id := range l.offers {
				if mutes(l, id) {
					continue // it never tells what it runs, so each session is told again what it should
				}
				if _, ok := disturbed[id]; !ok {
					fresh++
					disturbed[id] = time.Time{}
				}
			}
			if budget := max(l.prev.Budget, l.next.Budget); fresh > 0 && len(disturbed) > budget {
				fail("%d disturbed, %d of them just now, budget %d", len(disturbed), fresh, budget)
			}
		}
	})
}

// goodOn reports whether the agent is good on d, or good with what it has.
func goodOn(a *simAgent, d fleet.Delivery) bool {
	return a.Good(d) || d.IsZero() && a.Connected && a.Known && a.Healthy && !a.Settling()
}

func mutes(l look, id fleet.AgentID) bool {
	return slices.ContainsFunc(l.agents, func(a *simAgent) bool { return a.ID == id && a.temper == mute })
}

func TestI03Freshness(t *testing.T) {
	type streak struct {
		d     fleet.Delivery
		since time.Time
	}
	law(t, func(fail func(string, ...any)) func(look) {
		streaks := map[fleet.AgentID]streak{}
		return func(l look) {
			for _, a := range l.agents {
				was, _ := l.prev.Ledger.Get(a.ID)
				e, _ := l.next.Ledger.Get(a.ID)
				s := streaks[a.ID]
				if was.Result == InFlight && e.Result == OK {
					if !a.Good(e.Assigned) || s.d != e.Assigned || l.in.Now.Sub(s.since) < l.in.Spec.MinHealthyTime {
						fail("agent %v is OK after being good on %s since %v", a.ID, short(s.d), s.since)
					}
				}
				if !a.Good(e.Assigned) || l.in.Gap > 0 {
					delete(streaks, a.ID)
				}
				if a.Good(e.Assigned) && streaks[a.ID].d != e.Assigned {
					streaks[a.ID] = streak{e.Assigned, l.in.Now}
				}
			}
		}
	})
}

func TestI04GoingHome(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			if l.next.Phase != RollingBack && l.next.Phase != RolledBack {
				return
			}
			stable := l.next.StableDelivery()
			for id, d := range l.offers {
				if d != stable && !l.in.Now.Before(l.next.GraceUntil) {
					fail("agent %v is offered %s while %v", id, short(d), l.next.Phase)
				}
			}
			if l.next.Phase == RolledBack && l.prev.Phase != RolledBack {
				for e := range l.next.Ledger.All() {
					if e.Assigned != stable && e.Refused != stable && e.Shunned != stable {
						fail("agent %v is assigned %s in RolledBack", e.Agent, short(e.Assigned))
					}
				}
			}
		}
	})
}

func TestI05StableMovesWithEvidence(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			if !l.next.Blocked.IsZero() && l.next.Blocked == l.next.Stable {
				fail("stable is blocked")
			}
			if l.next.Stable == l.prev.Stable {
				return
			}
			if l.next.Phase != Completed || l.next.Stable != l.next.Target {
				fail("stable moved to %s in %v", short(l.next.StableDelivery()), l.next.Phase)
			}
			ok := 0
			for _, n := range results(l.next) {
				ok += n[OK]
			}
			if ok == 0 {
				fail("completed without evidence")
			}
		}
	})
}

func TestI06SameContentIsNoChange(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			in := l.in
			in.Commands, in.Gap = nil, 0
			in.Revision = fleet.Revision{ID: "another"}
			if again := Step(l.next, in); in.Target == l.next.Target && (len(again.Events) > 0 || !same(again.State, l.next)) {
				fail("another commit of the same content changed something: %v", again.Events)
			}
		}
	})
}

func TestI07Blocked(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			if l.prev.Blocked.IsZero() || l.next.Blocked != l.prev.Blocked || l.next.Attempt != l.prev.Attempt {
				return
			}
			if given := l.given(l.next.TargetDelivery()); len(given) > 0 {
				fail("a blocked target was given to %v", given[0].Agent)
			}
		}
	})
}

func TestI07BlockedNeedsNewContentOrRetry(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			asked := l.in.Target != l.prev.Target || l.in.Spec.RetryToken != l.prev.RetryToken ||
				slices.ContainsFunc(l.in.Commands, func(c Command) bool { return c.Verb == VerbRetry })
			if l.restarted() && !asked {
				fail("an attempt began and nobody asked for it")
			}
		}
	})
}

// A content that failed does not come back with a later commit, whatever was in
// between: somebody has to ask for it.
func TestI07FailedContentStaysBlocked(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		bad := map[fleet.Hash]string{} // the retryToken each failed with, as seen from outside
		return func(l look) {
			token, failedBefore := bad[l.next.Target]
			retried := slices.ContainsFunc(l.in.Commands, func(c Command) bool { return c.Verb == VerbRetry })
			if given := l.given(l.next.TargetDelivery()); failedBefore && token == l.in.Spec.RetryToken && !retried &&
				l.next.Target != l.next.Stable && l.next.Target != l.prev.Target && len(given) > 0 {
				fail("a content that failed was given to %v again", given[0].Agent)
			}
			failed := l.prev.Phase == Progressing && l.next.Phase != Progressing && l.next.Phase != Completed
			if failed && l.next.Target == l.prev.Target && l.next.Failure != "stopped by a person" {
				bad[l.next.Target] = l.next.RetryToken
			}
			if l.next.Phase == Completed {
				delete(bad, l.next.Target)
			}
		}
	})
}

func TestI08Deterministic(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			again := Step(l.prev, l.in)
			if !same(again.State, l.next) || !slices.Equal(again.Events, l.out.Events) || again.WakeAt != l.out.WakeAt {
				fail("two steps of the same state differ")
			}
		}
	})
}

func TestI09FixedPoint(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			in := l.in
			in.Commands, in.Gap = nil, 0
			again := Step(l.next, in)
			if len(again.Events) > 0 || !same(again.State, l.next) {
				changed, _ := again.State.Ledger.Changes(l.next.Ledger)
				fail("not a fixed point: %+v\n%+v\n%s", again.Events, changed, cmp.Diff(headerOf(l.next), headerOf(again.State)))
			}
			if !again.WakeAt.IsZero() && (l.out.WakeAt.IsZero() || again.WakeAt.Before(l.out.WakeAt)) {
				fail("wakes at %v, then at %v", l.out.WakeAt, again.WakeAt)
			}
		}
	})
}

// deserted reports whether every member of the attempt has left: who comes then
// begins at the first wave.
func (l look) deserted() bool {
	here := map[fleet.AgentID]bool{}
	for _, a := range l.in.Agents {
		here[a.ID] = true
	}
	for e := range l.prev.Ledger.All() {
		if e.Wave >= 0 && here[e.Agent] {
			return false
		}
	}
	return true
}

func TestI10WavesOnlyGrow(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			if !l.restarted() && l.next.Target == l.prev.Target && !l.deserted() && l.next.Wave < l.prev.Wave {
				fail("wave went from %d to %d", l.prev.Wave, l.next.Wave)
			}
		}
	})
}

func TestI11HoldsHold(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			held := l.in.Spec.Paused || l.next.UserPaused || l.in.Now.Before(l.next.GraceUntil) || !l.next.FrozenAt.IsZero()
			if held && l.next.Phase == Progressing && len(l.given(l.next.TargetDelivery())) > 0 {
				fail("the target was given to somebody while held (%v)", l.next.Hold)
			}
		}
	})
}
