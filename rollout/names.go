package rollout

import "fmt"

var phaseNames = [...]string{"Completed", "Progressing", "Paused", "RollingBack", "RolledBack", "Superseded"}

// Phases returns every phase a live rollout can have, in order.
func Phases() []Phase { return []Phase{Completed, Progressing, Paused, RollingBack, RolledBack} }

// String returns the word used in the API, the metrics and the CLI.
func (p Phase) String() string { return name(phaseNames[:], int(p)) }

// MarshalText implements [encoding.TextMarshaler].
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *Phase) UnmarshalText(text []byte) error { return parse(phaseNames[:], text, p) }

var holdNames = [...]string{
	"", "UserPaused", "WindowClosed", "FleetUnstable", "ControllerRestart", "Baking", "AwaitingApproval",
	"NoReachableAgents", "BudgetExhausted", "DependencyNotReady", "AnalysisNoData", "NoEvidence",
}

// Holds returns every hold but NoHold, in order.
func Holds() []Hold {
	holds := make([]Hold, 0, len(holdNames)-1)
	for h := UserPaused; int(h) < len(holdNames); h++ {
		holds = append(holds, h)
	}
	return holds
}

// String returns the word used in the API, the metrics and the CLI; "" for NoHold.
func (h Hold) String() string { return name(holdNames[:], int(h)) }

// MarshalText implements [encoding.TextMarshaler].
func (h Hold) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (h *Hold) UnmarshalText(text []byte) error { return parse(holdNames[:], text, h) }

var resultNames = [...]string{"Untouched", "Deferred", "InFlight", "OK", "Failed", "Inconclusive"}

// Results returns every result, in order.
func Results() []Result {
	return []Result{Untouched, Deferred, InFlight, OK, Failed, Inconclusive}
}

// String returns the word used in the API, the metrics and the CLI.
func (r Result) String() string { return name(resultNames[:], int(r)) }

// MarshalText implements [encoding.TextMarshaler].
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *Result) UnmarshalText(text []byte) error { return parse(resultNames[:], text, r) }

var failureNames = [...]string{"", "Rejected", "Timeout", "Lost", "Regressed", "SelfReverted"}

// Failures returns every failure but NoFailure, in order.
func Failures() []Failure { return []Failure{Rejected, Timeout, Lost, Regressed, SelfReverted} }

// String returns the word used in the API and the CLI; "" for NoFailure.
func (f Failure) String() string { return name(failureNames[:], int(f)) }

// MarshalText implements [encoding.TextMarshaler].
func (f Failure) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (f *Failure) UnmarshalText(text []byte) error { return parse(failureNames[:], text, f) }

var eventNames = [...]string{
	"started", "superseded", "wave started", "wave done", "offered", "agent ok", "agent failed", "agent deferred",
	"phase", "hold", "intent",
}

// String returns the word used in logs and the journal.
func (k EventKind) String() string { return name(eventNames[:], int(k)) }

// MarshalText implements [encoding.TextMarshaler].
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

var offerNames = [...]string{"wave", "steady", "rollback"}

// OfferKinds returns every kind of offer, in order.
func OfferKinds() []OfferKind { return []OfferKind{OfferWave, OfferSteady, OfferRollback} }

// String returns the word used in bellwether_offers_total.
func (k OfferKind) String() string { return name(offerNames[:], int(k)) }

var verbNames = [...]string{"pause", "resume", "promote", "abort", "rollback", "retry"}

// Verbs returns every verb, in order.
func Verbs() []Verb {
	return []Verb{VerbPause, VerbResume, VerbPromote, VerbAbort, VerbRollback, VerbRetry}
}

// String returns the word used in the API, the journal and the CLI.
func (v Verb) String() string { return name(verbNames[:], int(v)) }

// MarshalText implements [encoding.TextMarshaler].
func (v Verb) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (v *Verb) UnmarshalText(text []byte) error { return parse(verbNames[:], text, v) }

// MarshalText implements [encoding.TextMarshaler].
func (o OnFailure) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (o *OnFailure) UnmarshalText(text []byte) error {
	return parse([]string{"", "pause", "rollback"}, text, o)
}

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("unknown(%d)", i)
}

func parse[E ~uint8](names []string, text []byte, into *E) error {
	for i, n := range names {
		if n == string(text) {
			*into = E(i)
			return nil
		}
	}
	return fmt.Errorf("unknown word %q: want one of %q", text, names)
}
