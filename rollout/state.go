package rollout

import (
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Phase is where a rollout stands.
type Phase uint8

// The phases.
const (
	Completed   Phase = iota // stable is what everybody should run; steady state
	Progressing              // waves are worked; a [Hold] says why nothing moves
	Paused                   // a failure or a person stopped it: everybody keeps what they have
	RollingBack              // touched agents go to stable, within the budget
	RolledBack               // stable everywhere reachable; the target is blocked
	Superseded               // in history only
)

// Hold says why nothing moves. Every one may appear while Progressing;
// UserPaused, ControllerRestart and BudgetExhausted also in other phases, where
// agents that join, drift or go home wait for the same reasons.
type Hold uint8

// The holds. Each but NoEvidence stops the progress deadline while it lasts.
const (
	NoHold Hold = iota
	UserPaused
	WindowClosed
	FleetUnstable
	ControllerRestart
	Baking
	AwaitingApproval
	NoReachableAgents
	BudgetExhausted
	DependencyNotReady
	AnalysisNoData
	NoEvidence
)

// Result is what became of one agent in this attempt.
type Result uint8

// The results.
const (
	Untouched    Result = iota
	Deferred            // was offline when its turn came; not waited for
	InFlight            // offered, not judged yet
	OK                  // good for minHealthyTime on this very delivery
	Failed              // see [Failure]
	Inconclusive        // was unhealthy before we touched it: settled, neither evidence nor failure
)

// Failure is why an agent's result is Failed.
type Failure uint8

// The failures.
const (
	NoFailure    Failure = iota
	Rejected             // the agent reported FAILED
	Timeout              // not good within healthyDeadline
	Lost                 // offline at healthyDeadline
	Regressed            // was OK, then bad for healthyDeadline
	SelfReverted         // went back to something else by itself
)

// State is all that is durable about one rollout. It is a value: Step returns a
// new one and shares what did not change. Times are UTC, whole milliseconds,
// without a monotonic reading, so that values compare with == after decoding.
type State struct {
	Name string `json:"name"`

	Target         fleet.Hash     `json:"target"`            // content being rolled out, or in force
	TargetRevision fleet.Revision `json:"target_revision"`   // the first commit that had it
	Attempt        uint32         `json:"attempt,omitempty"` // of Target: grows with each retry
	Stable         fleet.Hash     `json:"stable,omitzero"`   // last completed content; zero: none yet
	StableRevision fleet.Revision `json:"stable_revision"`
	StableAttempt  uint32         `json:"stable_attempt,omitempty"` // attempt under which Stable is delivered
	Blocked        fleet.Hash     `json:"blocked,omitzero"`         // content that failed: not offered again by itself
	RetryToken     string         `json:"retry_token,omitempty"`

	// Tried are contents that some agent refused or that failed here, each with the
	// highest attempt used, newest last: when one comes back it is delivered under
	// a new attempt, so that it is judged afresh and never sent twice under one name.
	Tried []fleet.Delivery `json:"tried,omitempty"`

	// Bad are contents whose attempt failed here or was rolled back by a person,
	// newest last: a commit does not start one again (promise I7).
	Bad []Bad `json:"bad,omitempty"`

	Phase  Phase  `json:"phase"`
	Hold   Hold   `json:"hold,omitempty"`
	Reason string `json:"reason,omitempty"` // one sentence, for people; decisions never read it

	Failure string `json:"failure,omitempty"` // why the attempt failed, for people; "" if it did not

	UserPaused bool `json:"user_paused,omitempty"` // by an intent; spec.paused is in git
	SkipBake   bool `json:"skip_bake,omitempty"`   // by promote: the current wave's bake is over
	Orphaned   bool `json:"orphaned,omitempty"`    // git no longer declares it: nothing is offered

	Waves  []Frozen `json:"waves,omitempty"`  // of this attempt, "rest" last
	Wave   int      `json:"wave"`             // index of the current one
	Budget int      `json:"budget,omitempty"` // agents that may be disturbed at once
	High   int      `json:"high,omitempty"`   // most agents ever settled in this attempt

	StartedAt  time.Time `json:"started_at,omitzero"`  // of this attempt
	PhaseAt    time.Time `json:"phase_at,omitzero"`    // when Phase last changed
	ProgressAt time.Time `json:"progress_at,omitzero"` // when the progress deadline starts
	BakeAt     time.Time `json:"bake_at,omitzero"`     // when the current wave's bake began
	GraceUntil time.Time `json:"grace_until,omitzero"` // we were away: fail and offer nobody before
	HeldAt     time.Time `json:"held_at,omitzero"`     // since when a hold stops the progress deadline
	FrozenAt   time.Time `json:"frozen_at,omitzero"`   // since when nobody's deadline runs: grace, or mass loss

	Ledger Ledger `json:"-"` // what each agent was given and what became of it; stored apart
}

// Bad is a content that failed, and the retryToken there was then.
type Bad struct {
	Config     fleet.Hash `json:"config"`
	RetryToken string     `json:"retry_token,omitempty"`
}

// TargetDelivery is the name under which the target is offered in this attempt.
func (s *State) TargetDelivery() fleet.Delivery {
	return delivery(s.Target, s.Attempt)
}

// StableDelivery is the name under which the stable content is offered; zero when
// there is none yet.
func (s *State) StableDelivery() fleet.Delivery {
	return delivery(s.Stable, s.StableAttempt)
}

func delivery(h fleet.Hash, attempt uint32) fleet.Delivery {
	if h.IsZero() {
		return fleet.Delivery{}
	}
	return fleet.Delivery{Config: h, Attempt: attempt}
}

// Assignment returns what the agent of the entry should run: the target or the
// stable content, never anything else (promise I16), never what it refused
// (I18), and nothing for a rollout that git no longer declares. False means that
// the agent keeps what it has.
func (s *State) Assignment(e *Entry) (fleet.Delivery, bool) {
	d := e.Assigned
	if s.Orphaned || d.IsZero() || d == e.Refused || d == e.Shunned {
		return fleet.Delivery{}, false
	}
	return d, d == s.TargetDelivery() || d == s.StableDelivery()
}

// Frozen is a wave of a started attempt.
type Frozen struct {
	Name        string        `json:"name"`
	Members     int           `json:"members"`
	Bake        time.Duration `json:"bake,omitempty"`
	MaxFailures int           `json:"max_failures,omitempty"`
	OnFailure   OnFailure     `json:"on_failure"`
}

// Entry is one agent's line in the [Ledger].
type Entry struct {
	Agent    fleet.AgentID
	Assigned fleet.Delivery // what it should run; zero: what it has
	Refused  fleet.Delivery // last delivery it reported FAILED
	Shunned  fleet.Delivery // an earlier one that is still the target or stable
	Wave     int16          // index into State.Waves; -1: no member of this attempt
	Result   Result
	Failure  Failure
	Dirty    bool // disturbed: counts against the budget until good again
	Moved    bool // was given the target in this attempt

	BaseGood      bool // was healthy before we touched it
	BaseConnected bool // was connected when the attempt started

	OfferedAt time.Time // when Assigned was decided
	GoodSince time.Time // while InFlight or Dirty: good without a break since
	BadSince  time.Time // while OK in this attempt: bad without a break since
}

// EventKind says what happened.
type EventKind uint8

// The kinds of [Event].
const (
	EventStarted       EventKind = iota // an attempt began
	EventSuperseded                     // the target was replaced before it completed
	EventWaveStarted                    // a wave is worked from here
	EventWaveDone                       // all of its agents settled and the bake is over
	EventOffered                        // Count agents were assigned something; Offer says why
	EventAgentOK                        // an agent settled well; Took is the time since the offer
	EventAgentFailed                    // Failure says how
	EventAgentDeferred                  // it was offline when its turn came
	EventPhase                          // the phase changed to Phase
	EventHold                           // the hold changed to Hold
	EventIntent                         // a person asked for something; Text says what and who
)

// OfferKind says why an agent is given a config.
type OfferKind uint8

// The kinds of offers; the words of bellwether_offers_total.
const (
	OfferWave     OfferKind = iota // the target, in its wave
	OfferSteady                    // stable, to joiners, returners and drift
	OfferRollback                  // stable, going home
)

// Event is a fact: the core's only way to tell that something happened. The shell
// logs, journals and counts it.
type Event struct {
	At      time.Time
	Rollout string
	Kind    EventKind
	Phase   Phase
	From    Phase // of EventPhase
	Hold    Hold
	Wave    string // name
	Agent   fleet.AgentID
	Failure Failure
	Offer   OfferKind
	Target  fleet.Delivery
	Count   int
	Took    time.Duration
	Text    string // for people
}
