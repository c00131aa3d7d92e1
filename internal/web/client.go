package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Client speaks the API. The zero HTTP client waits at most 30 s for an answer.
type Client struct {
	Server string // http://host:port
	Token  string // "": none
	HTTP   *http.Client
}

// Error is an answer of the API that is not a yes.
type Error struct {
	Status int
	Detail string // for people
}

// Error returns the detail.
func (e *Error) Error() string { return e.Detail }

// IsNotFound reports whether err says that what was asked for does not exist.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusNotFound
}

// Status asks for the whole fleet in a few numbers.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/status")
}

// Rollouts asks for every rollout.
func (c *Client) Rollouts(ctx context.Context) ([]Rollout, error) {
	l, err := get[list[Rollout]](ctx, c, "/rollouts")
	return l.Items, err
}

// Rollout asks for one rollout.
func (c *Client) Rollout(ctx context.Context, name string) (Rollout, error) {
	return get[Rollout](ctx, c, "/rollouts/"+url.PathEscape(name))
}

// Revisions asks for the latest revisions, newest first.
func (c *Client) Revisions(ctx context.Context) ([]Revision, error) {
	l, err := get[list[Revision]](ctx, c, "/revisions")
	return l.Items, err
}

// Agent asks for one agent.
func (c *Client) Agent(ctx context.Context, id fleet.AgentID) (Agent, error) {
	return get[Agent](ctx, c, "/agents/"+id.String())
}

// AgentFilter says which agents are wanted; empty fields want all.
type AgentFilter struct {
	Rollout, State, Result, Label string
}

// Agents asks for agents, page after page.
func (c *Client) Agents(ctx context.Context, f AgentFilter) ([]Agent, error) {
	var all []Agent
	q := url.Values{"limit": {"5000"}}
	for key, value := range map[string]string{"rollout": f.Rollout, "state": f.State, "result": f.Result, "label": f.Label} {
		if value != "" {
			q.Set(key, value)
		}
	}
	for {
		page, err := get[list[Agent]](ctx, c, "/agents?"+q.Encode())
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, nil
		}
		q.Set("after", page.Next)
	}
}

// Command asks something of a rollout, naming the target that was seen.
func (c *Client) Command(ctx context.Context, name, verb string, target fleet.Hash, by, why string) (Rollout, error) {
	body, err := json.Marshal(map[string]string{"target": target.String(), "by": by, "why": why})
	if err != nil {
		return Rollout{}, err
	}
	return call[Rollout](ctx, c, http.MethodPost, "/rollouts/"+url.PathEscape(name)+"/"+verb, body)
}

// Sync asks the server to look at the repository now.
func (c *Client) Sync(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/sync", nil)
	return err
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	return call[T](ctx, c, http.MethodGet, path, nil)
}

func call[T any](ctx context.Context, c *Client, method, path string, body []byte) (out T, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.Server, "/")+"/api/v1"+path, bytes.NewReader(body))
	if err != nil {
		return out, fmt.Errorf("server address: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := c.HTTP
	if client == nil {
		client = &http.Client{Timeout: 30 * time.Second}
	}
	resp, err := client.Do(req)
	if err != nil {
		return out, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 300 {
		return out, answerError(resp)
	}
	if resp.StatusCode == http.StatusAccepted || resp.StatusCode == http.StatusNoContent {
		return out, nil
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("answer of %s: %w", req.URL.Redacted(), err)
	}
	return out, nil
}

func answerError(resp *http.Response) error {
	var problem struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(text, &problem) != nil || problem.Detail == "" {
		problem.Detail = resp.Status
	}
	for _, e := range problem.Errors {
		problem.Detail += ": " + e.Message
	}
	return &Error{Status: resp.StatusCode, Detail: problem.Detail}
}
