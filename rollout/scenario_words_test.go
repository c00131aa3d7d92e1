package rollout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

func (s *scenario) setSpec(input string) error {
	spec := *s.spec
	spec.Waves = nil
	for line := range strings.Lines(input) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return fmt.Errorf("spec line %q", line)
		}
		var err error
		switch key, value := fields[0], fields[1]; key {
		case "wave":
			var w Wave
			w, err = parseWave(value, fields[2:])
			spec.Waves = append(spec.Waves, w)
		case "maxUnavailable":
			spec.MaxUnavailable, err = parseSize(value)
		case "minHealthyTime":
			spec.MinHealthyTime, err = time.ParseDuration(value)
		case "healthyDeadline":
			spec.HealthyDeadline, err = time.ParseDuration(value)
		case "progressDeadline":
			spec.ProgressDeadline, err = time.ParseDuration(value)
		case "onFailure":
			err = spec.OnFailure.UnmarshalText([]byte(value))
		case "paused":
			spec.Paused, err = strconv.ParseBool(value)
		case "retryToken":
			spec.RetryToken = value
		default:
			err = fmt.Errorf("unknown key %s", key)
		}
		if err != nil {
			return err
		}
	}
	s.spec = &spec
	return nil
}

func parseWave(name string, fields []string) (Wave, error) {
	w := Wave{Name: name}
	for _, f := range fields {
		key, value, _ := strings.Cut(f, "=")
		var err error
		switch key {
		case "size":
			w.Size, err = parseSize(value)
		case "bake":
			w.Bake, err = time.ParseDuration(value)
		case "maxFailures":
			w.MaxFailures, err = strconv.Atoi(value)
		case "onFailure":
			err = w.OnFailure.UnmarshalText([]byte(value))
		case "ring":
			w.Selector = ringMatcher(value)
		default:
			err = fmt.Errorf("unknown key %s", key)
		}
		if err != nil {
			return w, err
		}
	}
	return w, nil
}

func parseSize(s string) (Size, error) {
	if percent, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.ParseFloat(percent, 64)
		return Size{Percent: n}, err
	}
	n, err := strconv.Atoi(s)
	return Size{Count: n}, err
}

// join adds agents; "a01-a25" is a range. Those that join before the first target
// have been there for an hour.
func (s *scenario) join(words []string, args map[string]string) error {
	since := s.now
	if s.target.IsZero() {
		since = since.Add(-time.Hour)
	}
	for _, w := range words {
		from, to, _ := strings.Cut(w, "-")
		if to == "" {
			to = from
		}
		first, err := strconv.Atoi(from[1:])
		if err != nil {
			return err
		}
		last, err := strconv.Atoi(to[1:])
		if err != nil {
			return err
		}
		for n := first; n <= last; n++ {
			a := &fleet.Agent{
				ID: fleet.AgentID{byte(n)}, Capabilities: steerable, Connected: true, Known: true, Healthy: true, Since: since,
			}
			if ring := args["ring"]; ring != "" {
				a.Labels = fleet.Labels{"ring": ring}
			}
			s.names[a.ID] = fmt.Sprintf("a%02d", n)
			s.agents = append(slices.Clone(s.agents), a)
		}
	}
	slices.SortFunc(s.agents, func(a, b *fleet.Agent) int { return a.ID.Compare(b.ID) })
	return nil
}

// report changes what agents say. The offer they speak of is what they are
// assigned.
func (s *scenario) report(names []string, word string) error {
	for _, a := range s.agents {
		if !slices.Contains(names, s.names[a.ID]) && !slices.Contains(names, "all") {
			continue
		}
		e, _ := s.state.Ledger.Get(a.ID)
		d := e.Assigned
		switch word {
		case "applied":
			a.Delivery, a.Status, a.Healthy = d, fleet.Applied, true
		case "applying":
			a.Delivery, a.Status = d, fleet.Applying
		case "failed":
			a.Delivery, a.Status, a.LastFailed = d, fleet.Failed, d
		case "reverts": // it says FAILED, goes back by itself, and says APPLIED of what it had
			a.LastFailed = d
			a.Delivery, a.Status = s.state.StableDelivery(), fleet.Applied
		case "relapses": // it goes back by itself, and never said FAILED
			a.Delivery, a.Status = s.state.StableDelivery(), fleet.Applied
		case "foreign":
			a.Delivery, a.Status = fleet.Delivery{Config: fleet.Hash{200}}, fleet.Applied
		case "sick", "well":
			a.Healthy = word == "well"
		case "offline", "online":
			a.Connected, a.Since = word == "online", s.now
		case "mute":
			a.Capabilities &^= fleet.ReportsRemoteConfig
			a.Known = false
		case "unsteerable":
			a.Capabilities &^= fleet.AcceptsRemoteConfig
		case "forgotten": // we restarted, and it has not come back
			*a = fleet.Agent{ID: a.ID, Since: s.now}
		case "back":
			a.Capabilities, a.Connected, a.Known, a.Healthy, a.Since = steerable, true, true, true, s.now
			a.Delivery, a.Status = d, fleet.Applied
		default:
			return fmt.Errorf("unknown report %q", word)
		}
	}
	return nil
}
