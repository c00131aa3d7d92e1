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
