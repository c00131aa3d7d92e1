package rollout

// obey answers what people asked for, in order. A command that names a target is
// refused when that is no longer the target: the person saw something else.
func (t *tick) obey() {
	for _, c := range t.in.Commands {
		refusal := ""
		if !c.Target.IsZero() && c.Target != t.s.Target {
			refusal = "the target is now " + t.s.Target.Short() + ", not " + c.Target.Short() + ": look again"
		} else {
			refusal = t.do(c.Verb)
		}
		t.out.Answers = append(t.out.Answers, Answer{Refused: refusal})
		if refusal == "" {
			text := c.Verb.String() + " by " + c.By
			if c.Why != "" {
				text += ": " + c.Why
			}
			t.tell(Event{Kind: EventIntent, Target: t.s.TargetDelivery(), Text: text})
		}
	}
}

// do carries one verb out, or says why not.
func (t *tick) do(v Verb) (refusal string) {
	switch v {
	case VerbPause:
		t.s.UserPaused = true
		t.held = UserPaused
	case VerbResume:
		return t.resume()
	case VerbPromote:
		if t.s.Phase != Progressing {
			return "nothing is progressing: the rollout is " + t.s.Phase.String()
		}
		t.s.SkipBake = true
	case VerbAbort:
		if t.s.Phase != Progressing {
			return "nothing to stop: the rollout is " + t.s.Phase.String()
		}
		t.s.Blocked, t.s.Failure = t.s.Target, "stopped by a person"
		t.noteTried(t.s.TargetDelivery())
		t.setPhase(Paused)
	case VerbRollback:
		return t.rollback()
	case VerbRetry:
		return t.retry()
	default:
		return "unknown verb " + v.String()
	}
	return ""
}

func (t *tick) resume() (refusal string) {
	switch {
	case t.s.UserPaused:
		t.s.UserPaused = false
		t.rehold()
		return ""
	case t.spec.Paused:
		return "it is paused in git: set spec.paused to false"
	case t.s.Phase == Paused:
		return "it stopped because it failed: retry tries the target again, a new commit replaces it"
	}
	return "it is not paused"
}

// rehold finds out what holds us: a person first, then our absence, then the network.
func (t *tick) rehold() {
	switch {
	case t.s.UserPaused || t.spec.Paused:
		t.held = UserPaused
	case t.absent:
		t.held = ControllerRestart
	case t.lost:
		t.held = FleetUnstable
	default:
		t.held = NoHold
	}
}

func (t *tick) rollback() (refusal string) {
	switch {
	case t.s.Phase == Completed:
		return "the target has completed: revert the commit to go back"
	case t.s.Phase == RollingBack || t.s.Phase == RolledBack:
		return "it is " + t.s.Phase.String() + " already"
	case t.s.Stable.IsZero():
		return "there is no config to go back to: none has completed yet"
	}
	t.noteBad()
	t.s.Failure = "rolled back by a person"
	t.noteTried(t.s.TargetDelivery())
	t.turnBack()
	return ""
}

func (t *tick) retry() (refusal string) {
	switch {
	case t.s.Phase == Completed:
		return "there is nothing to retry: the target has completed"
	case t.s.Phase == Progressing:
		return "the target is being tried: abort first"
	case t.s.Target == t.s.Stable:
		return "it goes back to the stable config: there is nothing to retry"
	case t.absent:
		return "the fleet is still coming back after a restart: try again in two minutes"
	}
	t.noteTried(t.s.TargetDelivery())
	t.start()
	return ""
}
