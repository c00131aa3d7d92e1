package rollout

import (
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Input is the world of one rollout at one instant.
type Input struct {
	Now      time.Time
	Gap      time.Duration  // time in which nobody watched, to be added to every timer; usually zero
	Spec     *Spec          // nil: the rollout is gone from git; it finishes nothing and offers nothing new
	Target   fleet.Hash     // the content the fleet repository asks for
	Revision fleet.Revision // where Target comes from
	Agents   []*fleet.Agent // those the rollout owns, sorted by ID, read only
	Commands []Command      // what people asked for, in order
}

// Verb is what a person may ask of a rollout outside git.
type Verb uint8

// The verbs. Each is answered in the same tick (see [Answer]).
const (
	VerbPause    Verb = iota // hold: offer nothing new
	VerbResume               // end VerbPause's hold; a Paused failed rollout needs VerbRetry
	VerbPromote              // the current wave's bake is over; evidence, failures and budget still count
	VerbAbort                // stop where it is: phase Paused
	VerbRollback             // go to stable
	VerbRetry                // try the failed target again, as a new attempt
)

// Command is one request of a person.
type Command struct {
	Verb   Verb
	Target fleet.Hash // the target the person saw; zero: whatever it is. Another one is refused as stale
	By     string
	Why    string
}

// Answer is what became of a [Command].
type Answer struct {
	Refused string // "" when it was done; else why not, for the person
}

// Output is what [Step] decided.
type Output struct {
	State   State
	Events  []Event
	Answers []Answer  // one for each command
	WakeAt  time.Time // when to step again even if nothing happens; zero: never
}

// Step decides what happens next. It is total, deterministic, and a fixed point:
// stepping the result again at the same instant changes nothing. It keeps no
// reference to in and changes neither argument.
//
// The order is: time, who is there, facts, target, commands, phase. Facts come
// before anything that was asked for, so that evidence already in is never lost.
func Step(prev State, in Input) Output {
	t := newTick(prev, in)
	t.passTime()
	t.rollCall()
	if in.Spec == nil || in.Target.IsZero() {
		return t.orphan()
	}
	t.s.Orphaned = false
	t.freeze()
	t.judgeAll()
	t.aim()
	t.obey()
	if t.s.Phase == Progressing {
		t.progress()
	}
	if t.s.Phase == RollingBack {
		t.goHome()
	}
	switch t.s.Phase {
	case Completed, RolledBack:
		t.steady()
	case Paused:
		t.welcome()
		t.setHold(t.held)
	case Progressing, RollingBack, Superseded: // have had their turn, or are history
	}
	return t.output()
}
