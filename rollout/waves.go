package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// progress works the waves as far as they go at this instant.
func (t *tick) progress() {
	if t.members() == 0 && !t.gather() {
		hold := t.held
		if hold == NoHold {
			hold = NoReachableAgents
		}
		t.setHold(hold)
		t.welcome()
		return
	}
	for {
		t.noteProgress()
		if t.held != NoHold {
			t.setHold(t.held)
			return
		}
		if t.failedWave() {
			return
		}
		blocked := t.offerWave()
		if t.failedWave() { // somebody refused the target before it was sent
			return
		}
		hold, done := t.waveDone(blocked)
		if !done {
			t.setHold(hold)
			break
		}
		if t.s.Wave == len(t.s.Waves)-1 {
			t.complete()
			return
		}
		t.nextWave()
	}
	t.stall()
	if t.s.Phase == Progressing {
		t.welcome()
	}
}

// noteProgress moves the progress deadline when more agents have settled than
// ever in this attempt, so that an agent that flaps is no progress.
func (t *tick) noteProgress() {
	settled := 0
	for i := range t.waves {
		settled += t.waves[i].settled()
	}
	if settled <= t.s.High {
		return
	}
	t.s.High, t.s.ProgressAt = settled, t.now
	if !t.s.HeldAt.IsZero() {
		t.s.HeldAt = t.now
	}
}

// failedWave ends the attempt if a wave up to the current one has more failures
// than it may.
func (t *tick) failedWave() bool {
	for i := range t.s.Wave + 1 {
		w, n := &t.s.Waves[i], t.waves[i].n[Failed]
		if n > w.MaxFailures {
			t.giveUp(w, fmt.Sprintf("wave %s failed: %s failed, %d allowed", w.Name, agents(n), w.MaxFailures))
			return true
		}
	}
	return false
}

// stall ends the attempt if nothing has settled for progressDeadline of time in
// which it could have.
func (t *tick) stall() {
	if !t.s.HeldAt.IsZero() {
		return
	}
	due := t.s.ProgressAt.Add(t.spec.ProgressDeadline)
	if t.now.Before(due) {
		t.at(due)
		return
	}
	w := &t.s.Waves[t.s.Wave]
	t.giveUp(w, fmt.Sprintf("wave %s failed: nothing settled for %v", w.Name, t.spec.ProgressDeadline))
}

// giveUp ends the attempt as the wave says: rolling back needs a stable config to
// go to.
func (t *tick) giveUp(w *Frozen, why string) {
	t.noteTried(t.s.TargetDelivery())
	t.noteBad()
	t.s.Failure = why
	if w.OnFailure == Rollback && !t.s.Stable.IsZero() {
		t.turnBack()
		return
	}
	t.setPhase(Paused)
	t.calm()
}

// offerWave offers the target to the current wave: repairs first and free of the
// budget, then by rank as the budget allows. Agents that an earlier attempt left
// disturbed are pulled in from later waves, for until they are repaired they hold
// the budget that everybody needs. It returns how many wait for the budget.
func (t *tick) offerWave() (blocked int) {
	wave := int16(t.s.Wave)
	target := t.s.TargetDelivery()
	var queue []candidate
	deferred := 0
	t.each(func(a *fleet.Agent, e *Entry) {
		if e.Wave < wave || e.Result != Untouched && e.Result != Deferred {
			return
		}
		pulled := e.Wave > wave && e.Dirty && a.Observable()
		switch {
		case e.Wave > wave && !pulled:
		case !reachable(a):
			if e.Wave == wave && e.Result == Untouched && !t.patient(a) {
				next := *e
				next.Result = Deferred
				t.put(e, next)
				deferred++
			}
		case refused(a, e, target):
			next := t.fail(a, *e, Rejected)
			next.Wave = wave
			t.put(e, next)
		case e.Dirty || a.Runs(target):
			t.assign(a, e, target, OfferWave)
		default:
			queue = append(queue, candidate{at: len(queue), agent: a})
		}
	})
	if deferred > 0 {
		t.tell(Event{Kind: EventAgentDeferred, Count: deferred, Wave: t.s.Waves[wave].Name, Target: target})
	}
	return t.offerSome(queue, target, OfferWave)
}

// offerSome offers d to as many of the queue as the budget allows, by rank, and
// returns how many are left.
func (t *tick) offerSome(queue []candidate, d fleet.Delivery, kind OfferKind) (blocked int) {
	free := max(0, t.free())
	if free == 0 {
		return len(queue)
	}
	if free < len(queue) {
		rank := ranker(t.s.Name)
		for i := range queue {
			queue[i].rank = rank(queue[i].agent.ID)
		}
		slices.SortFunc(queue, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.at, b.at))
		})
	}
	n := min(free, len(queue))
	for _, c := range queue[:n] {
		e, _ := t.edit.Get(c.agent.ID)
		t.assign(c.agent, &e, d, kind)
	}
	return len(queue) - n
}

// assign gives an agent something to run, which disturbs it unless it runs that
// already, and starts its clock in this same tick.
func (t *tick) assign(a *fleet.Agent, e *Entry, d fleet.Delivery, kind OfferKind) {
	next := *e
	next.Assigned, next.OfferedAt = d, t.now
	next.GoodSince, next.BadSince = time.Time{}, time.Time{}
	if !next.Dirty {
		next.BaseGood = a.Connected && healthy(a)
	}
	if kind != OfferRollback || next.Result != Failed {
		next.Result, next.Failure = InFlight, NoFailure
	}
	if kind == OfferWave {
		next.Moved, next.Wave = true, min(next.Wave, int16(t.s.Wave))
	}
	if !a.Runs(d) {
		next.Dirty = true
		t.offers[kind]++
	}
	t.put(e, t.judge(a, next))
}

// waveDone reports whether the current wave may be left: everybody has settled or
// is deferred, it is quiet, there is evidence, and the bake is over. If not, hold
// says why.
func (t *tick) waveDone(blocked int) (hold Hold, done bool) {
	w := &t.waves[t.s.Wave]
	if w.n[Untouched] > 0 || w.n[InFlight] > 0 || blocked > 0 {
		t.s.BakeAt = time.Time{}
		if blocked > 0 && t.inFlight() == 0 {
			return BudgetExhausted, false
		}
		return NoHold, false
	}
	if !t.proven() {
		t.s.BakeAt = time.Time{}
		if t.tried() {
			return NoEvidence, false
		}
		return NoReachableAgents, false
	}
	if t.s.BakeAt.IsZero() {
		t.s.BakeAt = t.now
	}
	over := t.s.BakeAt.Add(t.s.Waves[t.s.Wave].Bake)
	if t.now.Before(over) && !t.s.SkipBake {
		t.at(over)
		return Baking, false
	}
	return NoHold, t.calmWave()
}

func (t *tick) inFlight() int {
	n := 0
	for i := range t.waves {
		n += t.waves[i].n[InFlight]
	}
	return n
}

// proven reports whether there is evidence for leaving the current wave (promise
// I13): the first wave needs an agent of its own that is OK, a later one an agent
// that is OK somewhere up to it. A wave in which nobody is left needs none itself.
// Evidence may have left with its agent, so it is looked for afresh.
func (t *tick) proven() bool {
	members, ok := 0, 0
	for i := range t.s.Wave + 1 {
		members += t.waves[i].members()
		ok += t.waves[i].n[OK]
	}
	return ok > 0 || members == 0
}

// tried reports whether anybody up to the current wave was offered the target.
func (t *tick) tried() bool {
	for i := range t.s.Wave + 1 {
		if t.waves[i].settled() > 0 {
			return true
		}
	}
	return false
}

// calmWave reports whether few of the current wave's agents that settled well are
// bad right now: more than the failures allowed, and more than a tenth, keep the
// wave until they recover or have regressed.
func (t *tick) calmWave() bool {
	w := &t.waves[t.s.Wave]
	return w.bad <= max(t.s.Waves[t.s.Wave].MaxFailures, w.members()/10)
}

func (t *tick) nextWave() {
	t.tellOffers()
	t.tell(Event{Kind: EventWaveDone, Wave: t.s.Waves[t.s.Wave].Name, Count: t.waves[t.s.Wave].members()})
	t.s.Wave++
	t.s.SkipBake = false
	t.s.BakeAt, t.s.HeldAt, t.s.ProgressAt = time.Time{}, time.Time{}, t.now
	w := t.s.Waves[t.s.Wave]
	t.tell(Event{Kind: EventWaveStarted, Wave: w.Name, Count: w.Members})
}

// complete makes the target the stable content (promise I5).
func (t *tick) complete() {
	t.tellOffers()
	t.tell(Event{Kind: EventWaveDone, Wave: t.s.Waves[t.s.Wave].Name, Count: t.waves[t.s.Wave].members()})
	t.s.Stable, t.s.StableRevision, t.s.StableAttempt = t.s.Target, t.s.TargetRevision, t.s.Attempt
	t.s.BakeAt, t.s.SkipBake = time.Time{}, false
	if len(t.s.Bad) > 0 {
		t.s.Bad = t.without(t.s.Target)
	}
	t.setPhase(Completed)
}
