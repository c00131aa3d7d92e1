package rollout

import (
	"slices"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// passTime takes time in which nobody watched out of every timer, forgets what
// must last without a break, and begins the grace (promise I12: our outage is
// nobody's fault).
func (t *tick) passTime() {
	if t.in.Gap <= 0 || t.s.Target.IsZero() {
		return
	}
	for _, timer := range []*time.Time{&t.s.ProgressAt, &t.s.BakeAt, &t.s.HeldAt, &t.s.FrozenAt} {
		shift(timer, t.in.Gap)
	}
	t.s.GraceUntil = t.now.Add(grace)
	for e := range t.edit.All() {
		if e.Result != InFlight && !e.Dirty && e.BadSince.IsZero() && e.GoodSince.IsZero() {
			continue
		}
		next := *e
		shift(&next.OfferedAt, t.in.Gap)
		shift(&next.BadSince, t.in.Gap)
		next.GoodSince = time.Time{}
		t.edit.Put(next)
	}
}

func shift(timer *time.Time, by time.Duration) {
	if !timer.IsZero() {
		*timer = timer.Add(by)
	}
}

// rollCall drops entries of agents that left and gives an empty one to agents
// that joined. Agents that accept no remote config are no members of anything.
func (t *tick) rollCall() {
	var joined []Entry
	var left []fleet.AgentID
	join := func(a *fleet.Agent) {
		if a.Steerable() {
			joined = append(joined, Entry{Agent: a.ID, Wave: -1, BaseGood: a.Connected && healthy(a), BaseConnected: a.Connected})
		}
	}
	agents := t.in.Agents
	if t.s.Ledger.Len() == 0 {
		joined = make([]Entry, 0, len(agents))
	}
	waiting := 0
	for e := range t.s.Ledger.All() {
		for len(agents) > 0 && agents[0].ID != e.Agent && agents[0].ID.Compare(e.Agent) < 0 {
			join(agents[0])
			agents = agents[1:]
		}
		if len(agents) == 0 || agents[0].ID != e.Agent {
			left = append(left, e.Agent)
			continue
		}
		a := agents[0]
		agents = agents[1:]
		switch {
		case unseen(a):
			if until := a.Since.Add(returning); t.now.Before(until) {
				waiting++
				t.at(until)
			}
		case !a.Steerable():
			left = append(left, e.Agent)
			continue
		}
		if e.BaseConnected && e.Wave >= 0 {
			t.base++
			if !e.Moved && !e.Dirty && !a.Connected {
				t.gone++
			}
		}
	}
	for _, a := range agents {
		join(a)
	}
	t.enrol(joined, left)
	if few(waiting, t.edit.ledger.Len()) {
		waiting = 0
	}
	if t.now.Before(t.s.GraceUntil) || waiting > 0 {
		t.at(t.s.GraceUntil)
		t.absent = true
	}
}

// few reports whether n is below the 30 % from which an absence is not chance.
func few(n, of int) bool { return n*10 < of*3 }

func (t *tick) enrol(joined []Entry, left []fleet.AgentID) {
	const many = 1024 // from here on it is cheaper to build a new ledger
	if len(joined) > many {
		all := make([]Entry, 0, t.edit.ledger.Len()+len(joined))
		for e := range t.edit.All() {
			all = append(all, *e)
		}
		all = append(all, joined...)
		slices.SortFunc(all, func(a, b Entry) int { return a.Agent.Compare(b.Agent) })
		t.edit = ledgerOfSorted(all).Edit()
		joined = nil
	}
	for _, e := range joined {
		t.edit.Put(e)
	}
	for _, id := range left {
		t.edit.Remove(id)
	}
}

// freeze decides whether anybody's deadline runs, and what stops us. Mass loss
// looks at the control group, the agents this attempt has not touched: when 30 %
// of the baseline are untouched and gone, the network is ill, not the config.
// It reads only what was true before this tick's offers.
func (t *tick) freeze() {
	const enough = 4 // agents, to call it mass loss
	attempt := t.s.Phase == Progressing || t.s.Phase == Paused
	t.lost = attempt && t.base >= enough && !few(t.gone, t.base)
	t.frozen = t.lost || t.absent
	t.rehold()
	if t.frozen && t.s.FrozenAt.IsZero() {
		t.s.FrozenAt = t.now
	}
	if !t.frozen {
		t.thaw()
	}
}

// calm forgets the mass loss of an attempt that ends or begins: what was lost is
// counted against a new baseline, or no longer matters.
func (t *tick) calm() {
	t.lost, t.frozen = false, t.absent
	if t.held == FleetUnstable {
		t.held = NoHold
	}
	if !t.frozen {
		t.thaw()
	}
}

// thaw lets the deadlines go on where they were.
func (t *tick) thaw() {
	if t.s.FrozenAt.IsZero() {
		return
	}
	since := t.s.FrozenAt
	t.s.FrozenAt = time.Time{}
	for e := range t.edit.All() {
		if e.Result != InFlight && !e.Dirty && e.BadSince.IsZero() {
			continue
		}
		next := *e
		skip(&next.OfferedAt, since, t.now)
		skip(&next.BadSince, since, t.now)
		t.edit.Put(next)
	}
}

// skip takes the time between since and now out of a timer.
func skip(timer *time.Time, since, now time.Time) {
	if timer.IsZero() {
		return
	}
	if timer.After(since) {
		since = *timer
	}
	*timer = timer.Add(now.Sub(since))
}
