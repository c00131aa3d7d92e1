package rollout

import (
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

const (
	quietArrival = 3 * time.Second // nobody new for so long, and the fleet has gathered
	longArrival  = time.Minute     // it is waited for no longer than this
)

// members is how many agents the attempt has left.
func (t *tick) members() int {
	n := 0
	for i := range t.waves {
		n += t.waves[i].members()
	}
	return n
}

// gathered reports whether there is a fleet whose waves can be frozen. Nobody is
// none: an attempt without agents waits, for what nobody ran is not proven
// (promises I5 and I13). And as long as nothing is stable, agents that are still
// arriving are waited for, because whoever comes after the order is frozen gets
// the target without a wave.
func (t *tick) gathered() bool {
	if t.edit.ledger.Len() == 0 {
		return false
	}
	if !t.s.Stable.IsZero() {
		return true
	}
	var first, last time.Time
	here := 0
	t.each(func(a *fleet.Agent, _ *Entry) {
		if !a.Connected {
			return
		}
		if here == 0 || a.Since.Before(first) {
			first = a.Since
		}
		if here == 0 || a.Since.After(last) {
			last = a.Since
		}
		here++
	})
	if here == 0 {
		return false
	}
	due := last.Add(quietArrival)
	if latest := first.Add(longArrival); latest.Before(due) {
		due = latest
	}
	if t.now.Before(due) {
		t.at(due)
		return false
	}
	return true
}

// gather makes up the waves of an attempt that has nobody, once there is somebody:
// at its start, and when everybody it had has left.
func (t *tick) gather() bool {
	if t.held != NoHold || !t.gathered() {
		return false
	}
	var waves []int16
	t.s.Waves, waves = t.order()
	t.s.Wave, t.s.High = 0, 0
	t.s.StartedAt, t.s.ProgressAt = t.now, t.now
	t.s.BakeAt, t.s.HeldAt = time.Time{}, time.Time{}
	t.calm()
	t.reset(waves)
	t.recount()
	t.tell(Event{Kind: EventWaveStarted, Wave: t.s.Waves[0].Name, Count: t.s.Waves[0].Members})
	return true
}

// vacant returns the waves of an attempt that has nobody yet.
func (t *tick) vacant() []Frozen {
	waves := make([]Frozen, 0, len(t.spec.Waves)+1)
	for _, w := range t.spec.Waves {
		waves = append(waves, Frozen{Name: w.Name, Bake: w.Bake, MaxFailures: w.MaxFailures, OnFailure: t.onFailure(w.OnFailure)})
	}
	return append(waves, Frozen{Name: Rest, OnFailure: t.onFailure(Inherit)})
}
