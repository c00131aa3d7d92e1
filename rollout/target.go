package rollout

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// aim begins a new attempt when git asks for other content, or for another try of
// content that failed. Identity is content: a commit that changes neither changes
// nothing. While the fleet is coming back to us the start waits, for an order
// frozen now would put everybody who is merely late into the last wave.
func (t *tick) aim() {
	changed := t.in.Target != t.s.Target
	failed := t.s.Phase == Paused || t.s.Phase == RolledBack || t.s.Phase == RollingBack && t.s.Target != t.s.Stable
	switch {
	case t.absent:
	case changed && t.knownBad():
		t.decline()
	case changed:
		t.start()
	case t.spec.RetryToken == t.s.RetryToken:
	case failed:
		t.noteTried(t.s.TargetDelivery())
		t.start()
	default:
		t.s.RetryToken = t.spec.RetryToken
	}
}

// start begins an attempt at the target that git asks for.
func (t *tick) start() {
	old := t.s
	if old.Phase == Progressing || old.Phase == RollingBack {
		t.tell(Event{Kind: EventSuperseded, Target: old.TargetDelivery(), Phase: old.Phase})
	}
	if t.in.Target != old.Target {
		t.s.Target, t.s.TargetRevision = t.in.Target, t.in.Revision
	}
	t.s.Attempt = t.nextAttempt()
	t.s.Blocked, t.s.Failure = fleet.Hash{}, ""
	t.s.RetryToken = t.spec.RetryToken
	t.s.SkipBake = false
	t.s.Wave, t.s.High, t.s.Waves = 0, 0, nil
	t.s.StartedAt, t.s.ProgressAt = t.now, t.now
	t.s.BakeAt, t.s.HeldAt = time.Time{}, time.Time{}
	t.calm()

	phase, waves := Progressing, []int16(nil)
	switch {
	case t.s.Target == t.s.Stable:
		phase = RollingBack // a revert is not news: no waves, straight home, within the budget
	case t.gathered():
		t.s.Waves, waves = t.order()
	default:
		t.s.Waves = t.vacant()
	}
	t.reset(waves)
	t.recount()
	t.tell(Event{Kind: EventStarted, Target: t.s.TargetDelivery(), Count: t.edit.ledger.Len(), Text: t.s.TargetRevision.Short()})
	t.setPhase(phase)
	if phase == Progressing && t.members() > 0 {
		t.tell(Event{Kind: EventWaveStarted, Wave: t.s.Waves[0].Name, Count: t.s.Waves[0].Members})
	}
}

// knownBad reports whether git asks for a content that failed here before, and
// whose retryToken is still the one it failed with.
func (t *tick) knownBad() bool {
	return t.in.Target != t.s.Stable && slices.Contains(t.s.Bad, Bad{t.in.Target, t.spec.RetryToken})
}

// maxBad bounds how many failed contents are remembered.
const maxBad = 32

// noteBad remembers that the target failed; it is then blocked, now and when a
// later commit brings it back.
func (t *tick) noteBad() {
	t.s.Blocked = t.s.Target
	bad := t.without(t.s.Target)
	t.s.Bad = slices.Clip(append(bad[max(0, len(bad)-maxBad+1):], Bad{t.s.Target, t.s.RetryToken}))
}

// without returns a copy of the bad contents without one.
func (t *tick) without(h fleet.Hash) []Bad {
	return slices.DeleteFunc(slices.Clone(t.s.Bad), func(b Bad) bool { return b.Config == h })
}

// decline takes a target that failed before as what git asks for, and goes home
// instead of trying it again (promise I7).
func (t *tick) decline() {
	if t.s.Phase == Progressing || t.s.Phase == RollingBack {
		t.tell(Event{Kind: EventSuperseded, Target: t.s.TargetDelivery(), Phase: t.s.Phase})
	}
	t.s.Target, t.s.TargetRevision = t.in.Target, t.in.Revision
	t.s.Attempt = t.nextAttempt() - 1 // the one it failed in
	t.s.Blocked, t.s.Failure = t.s.Target, "this content failed here before"
	t.s.RetryToken = t.spec.RetryToken
	t.s.SkipBake = false
	t.s.Wave, t.s.High, t.s.Waves = 0, 0, nil
	t.s.StartedAt, t.s.ProgressAt = t.now, t.now
	t.s.BakeAt, t.s.HeldAt = time.Time{}, time.Time{}
	t.calm()
	t.reset(nil)
	t.recount()
	if t.s.Stable.IsZero() {
		t.setPhase(Paused)
		return
	}
	t.setPhase(RollingBack)
}

// nextAttempt returns an attempt under which nobody has judged the target yet.
func (t *tick) nextAttempt() uint32 {
	if t.s.Target == t.s.Stable {
		return t.s.StableAttempt
	}
	for _, d := range t.s.Tried {
		if d.Config == t.s.Target {
			return d.Attempt + 1
		}
	}
	return 0
}

// reset makes every entry new for the attempt. What is disturbed stays so
// (promise I2). Nobody stays assigned to a superseded config unless it runs it.
func (t *tick) reset(waves []int16) {
	entries := make([]Entry, 0, t.edit.ledger.Len())
	stable := t.s.StableDelivery()
	t.each(func(a *fleet.Agent, e *Entry) {
		next := Entry{
			Agent: e.Agent, Assigned: e.Assigned, Refused: e.Refused, Shunned: e.Shunned, Wave: -1,
			Dirty: e.Dirty, BaseGood: a.Connected && healthy(a), BaseConnected: a.Connected,
		}
		if waves != nil {
			next.Wave = waves[len(entries)]
		}
		if e.Dirty {
			next.BaseGood, next.GoodSince, next.OfferedAt = e.BaseGood, e.GoodSince, e.OfferedAt
		}
		if next.Assigned != stable && !a.Runs(next.Assigned) {
			next.Assigned = fleet.Delivery{}
			next.GoodSince = time.Time{}
		}
		entries = append(entries, t.soak(a, t.sleep(a, next)))
	})
	t.edit = ledgerOfSorted(entries).Edit()
}

// candidate is an agent on its way into a wave.
type candidate struct {
	class int8   // repairs, reachable, the rest
	rank  uint64 // of the hash of rollout and agent: repeatable, spread, not to be chosen by the agent
	at    int    // in the order of the ledger
	agent *fleet.Agent
}

// order freezes who belongs to which wave: repairs first, then who can be
// reached, then by rank; the first wave that matches takes an agent, and whoever
// is left is in the last one, "rest". Agents that never tell what became of an
// offer wait for the last wave.
//
// Example: waves {canary, size 5%} and {half, size 50%} of 25 agents take
// ceil(1.25) = 2 and ceil(12.5) = 13; 10 are left for rest (testdata/waves.txt).
func (t *tick) order() (frozen []Frozen, waves []int16) {
	queue := make([]candidate, 0, t.edit.ledger.Len())
	rank := ranker(t.s.Name)
	waves = make([]int16, t.edit.ledger.Len())
	rest := int16(len(t.spec.Waves))
	at := 0
	t.each(func(a *fleet.Agent, e *Entry) {
		waves[at] = rest
		if a.Observable() || unseen(a) {
			c := candidate{class: 2, rank: rank(e.Agent), at: at, agent: a}
			switch {
			case e.Dirty && reachable(a):
				c.class = 0
			case reachable(a):
				c.class = 1
			}
			queue = append(queue, c)
		}
		at++
	})
	slices.SortFunc(queue, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.rank, b.rank), cmp.Compare(a.at, b.at))
	})
	total := len(waves)
	left := total
	for i, w := range t.spec.Waves {
		want, n := w.Size.Of(total), 0
		kept := queue[:0]
		for _, c := range queue {
			if n < want && (w.Selector == nil || w.Selector.Matches(c.agent.Labels)) {
				waves[c.at] = int16(i)
				n++
				continue
			}
			kept = append(kept, c)
		}
		queue = kept
		left -= n
		frozen = append(frozen, Frozen{
			Name: w.Name, Members: n, Bake: w.Bake, MaxFailures: w.MaxFailures, OnFailure: t.onFailure(w.OnFailure),
		})
	}
	return append(frozen, Frozen{Name: Rest, Members: left, OnFailure: t.onFailure(Inherit)}), waves
}

func (t *tick) onFailure(o OnFailure) OnFailure {
	if o == Inherit {
		return t.spec.OnFailure
	}
	return o
}

// ranker returns the rank of agents in the rollout of that name.
func ranker(name string) func(fleet.AgentID) uint64 {
	salted := append([]byte(name), 0)
	n := len(salted)
	salted = append(salted, make([]byte, len(fleet.AgentID{}))...)
	return func(id fleet.AgentID) uint64 {
		copy(salted[n:], id[:])
		sum := sha256.Sum256(salted)
		return binary.BigEndian.Uint64(sum[:])
	}
}
