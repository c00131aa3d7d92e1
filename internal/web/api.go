package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
	"github.com/danielgtaylor/huma/v2"
)

func (s *server) register(api huma.API) {
	get := func(id, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: "/api/v1" + path, Summary: summary}
	}
	huma.Register(api, get("get-status", "/status", "The whole fleet in a few numbers"), s.status)
	huma.Register(api, get("list-rollouts", "/rollouts", "Every rollout, sorted by name"), s.rollouts)
	huma.Register(api, get("get-rollout", "/rollouts/{name}", "One rollout"), s.rollout)
	huma.Register(api, get("list-agents", "/agents", "Agents, sorted by id, in pages"), s.agents)
	huma.Register(api, get("get-agent", "/agents/{uid}", "One agent"), s.agent)
	huma.Register(api, get("list-revisions", "/revisions", "The latest revisions, newest first"), s.revisions)
	huma.Register(api, huma.Operation{
		OperationID: "command-rollout", Method: http.MethodPost, Path: "/api/v1/rollouts/{name}/{verb}",
		Summary: "Ask something of a rollout, naming the target that was seen; a stale one is refused with 409",
	}, s.command)
	huma.Register(api, huma.Operation{
		OperationID: "sync", Method: http.MethodPost, Path: "/api/v1/sync",
		Summary: "Look at the repository now", DefaultStatus: http.StatusAccepted,
	}, s.sync)
}

// body is how huma wants an answer.
type body[T any] struct{ Body T }

// list is how the API answers with several.
type list[T any] struct {
	Items []T    `json:"items"`
	Total int    `json:"total" doc:"how many there are, on all pages"`
	Next  string `json:"next,omitempty" doc:"give it as after to get the next page"`
}

func (s *server) overview(ctx context.Context) (Overview, error) {
	o, err := s.cfg.Fleet.Overview(ctx)
	if err != nil {
		return o, unavailable(err)
	}
	return o, nil
}

func unavailable(error) error {
	return huma.Error503ServiceUnavailable("the server is starting or stopping; try again")
}

func (s *server) status(ctx context.Context, _ *struct{}) (*body[Status], error) {
	o, err := s.overview(ctx)
	return &body[Status]{statusOf(o, s.cfg.Version)}, err
}

func (s *server) rollouts(ctx context.Context, _ *struct{}) (*body[list[Rollout]], error) {
	o, err := s.overview(ctx)
	out := list[Rollout]{Items: []Rollout{}, Total: len(o.Status.Rollouts)}
	for _, r := range o.Status.Rollouts {
		out.Items = append(out.Items, rolloutOf(r))
	}
	return &body[list[Rollout]]{out}, err
}

type rolloutInput struct {
	Name string `path:"name"`
}

func (s *server) rollout(ctx context.Context, in *rolloutInput) (*body[Rollout], error) {
	o, err := s.overview(ctx)
	if err != nil {
		return nil, err
	}
	r, err := find(o, in.Name)
	return &body[Rollout]{rolloutOf(r)}, err
}

func find(o Overview, name string) (reconciler.RolloutStatus, error) {
	names := make([]string, 0, len(o.Status.Rollouts))
	for _, r := range o.Status.Rollouts {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	if len(names) == 0 {
		return reconciler.RolloutStatus{}, huma.Error404NotFound(fmt.Sprintf("no rollout %q: there are none yet", name))
	}
	return reconciler.RolloutStatus{}, huma.Error404NotFound(fmt.Sprintf("no rollout %q; known: %s", name, strings.Join(names, ", ")))
}

type agentsInput struct {
	Rollout string `query:"rollout" doc:"only those this rollout owns"`
	State   string `query:"state" enum:"healthy,unhealthy,offline,unobservable"`
	Result  string `query:"result" doc:"only those with this result in the current attempt"`
	Label   string `query:"label" doc:"only those with key=value"`
	After   string `query:"after" doc:"next of the page before"`
	Limit   int    `query:"limit" default:"1000" minimum:"1" maximum:"10000"`
}

func (in agentsInput) wants(a *fleet.Agent, st reconciler.AgentStatus) bool {
	if in.Label != "" {
		key, value, _ := strings.Cut(in.Label, "=")
		if got, ok := a.Labels[key]; !ok || got != value {
			return false
		}
	}
	return (in.Rollout == "" || in.Rollout == st.Rollout) &&
		(in.State == "" || in.State == st.State.String()) &&
		(in.Result == "" || strings.EqualFold(in.Result, st.Result.String()))
}

func (s *server) agents(ctx context.Context, in *agentsInput) (*body[list[Agent]], error) {
	var after fleet.AgentID
	if in.After != "" {
		var err error
		if after, err = fleet.ParseAgentID(in.After); err != nil {
			return nil, huma.Error400BadRequest("after: " + err.Error())
		}
	}
	out := list[Agent]{Items: []Agent{}}
	err := s.cfg.Fleet.EachAgent(ctx, func(a *fleet.Agent, st reconciler.AgentStatus) {
		if !in.wants(a, st) {
			return
		}
		out.Total++
		switch {
		case in.After != "" && a.ID.Compare(after) <= 0:
		case len(out.Items) < in.Limit:
			out.Items = append(out.Items, agentOf(a, st))
		case out.Next == "":
			out.Next = out.Items[len(out.Items)-1].ID.String()
		}
	})
	if err != nil {
		return nil, unavailable(err)
	}
	return &body[list[Agent]]{out}, nil
}

type agentInput struct {
	UID string `path:"uid"`
}

func (s *server) agent(ctx context.Context, in *agentInput) (*body[Agent], error) {
	id, err := fleet.ParseAgentID(in.UID)
	if err != nil {
		return nil, huma.Error400BadRequest(fmt.Sprintf("%q: %v", in.UID, err))
	}
	var found *Agent
	err = s.cfg.Fleet.EachAgent(ctx, func(a *fleet.Agent, st reconciler.AgentStatus) {
		if a.ID == id {
			found = new(agentOf(a, st))
		}
	})
	if err != nil {
		return nil, unavailable(err)
	}
	if found == nil {
		return nil, huma.Error404NotFound(fmt.Sprintf("no agent %s", id))
	}
	return &body[Agent]{*found}, nil
}

func agentOf(a *fleet.Agent, st reconciler.AgentStatus) Agent {
	out := Agent{
		ID: a.ID, Labels: a.Labels, Connected: a.Connected, Healthy: a.Healthy, HealthError: a.HealthError,
		State: st.State.String(), Rollout: st.Rollout, Wave: st.Wave,
		Assigned: st.Assigned.String(), Delivery: a.Delivery.String(), Status: a.Status, Error: a.Error,
		LastSeen: a.LastSeen, Since: a.Since, EffectiveSize: a.EffectiveSize,
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if st.Rollout != "" {
		out.Result, out.Failure, out.Sync = st.Result.String(), st.Failure.String(), st.Sync.String()
	}
	return out
}

func (s *server) revisions(ctx context.Context, _ *struct{}) (*body[list[Revision]], error) {
	o, err := s.overview(ctx)
	out := list[Revision]{Items: []Revision{}, Total: len(o.Revisions)}
	for _, r := range o.Revisions {
		out.Items = append(out.Items, revisionStatusOf(r))
	}
	return &body[list[Revision]]{out}, err
}

type commandInput struct {
	Name string `path:"name"`
	Verb string `path:"verb" enum:"pause,resume,promote,abort,rollback,retry"`
	Body struct {
		Target fleet.Hash `json:"target,omitzero" doc:"the target that was seen; left out: whatever it is now"`
		By     string     `json:"by,omitempty" maxLength:"200"`
		Why    string     `json:"why,omitempty" maxLength:"1000"`
	}
}

// Verbs are the words of the API for what can be asked, in the order of
// [rollout.Verb].
func Verbs() []string {
	return []string{"pause", "resume", "promote", "abort", "rollback", "retry"}
}

func (s *server) command(ctx context.Context, in *commandInput) (*body[Rollout], error) {
	o, err := s.overview(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := find(o, in.Name); err != nil {
		return nil, err
	}
	answer, err := s.cfg.Fleet.Command(ctx, reconciler.Intent{Rollout: in.Name, Command: rollout.Command{
		Verb: rollout.Verb(slices.Index(Verbs(), in.Verb)), Target: in.Body.Target, By: in.Body.By, Why: in.Body.Why,
	}})
	if err != nil {
		return nil, unavailable(err)
	}
	if answer.Refused != "" {
		return nil, huma.Error409Conflict(answer.Refused)
	}
	return s.rollout(ctx, &rolloutInput{in.Name})
}

func (s *server) sync(context.Context, *struct{}) (*struct{}, error) {
	s.cfg.Sync()
	return nil, nil
}
