//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// The shapes of the JSON API, as far as the tests look.
type (
	rolloutView struct {
		Name      string     `json:"name"`
		Phase     string     `json:"phase"`
		Hold      string     `json:"hold"`
		Reason    string     `json:"reason"`
		Wave      int        `json:"wave"`
		Waves     []waveView `json:"waves"`
		Target    string     `json:"target"`
		Stable    string     `json:"stable"`
		Blocked   string     `json:"blocked"`
		Revision  string     `json:"revision"`
		Disturbed int        `json:"disturbed"`
		Budget    int        `json:"budget"`
		Agents    int        `json:"agents"`
		Failing   []struct {
			Agent   string `json:"agent"`
			Wave    string `json:"wave"`
			Failure string `json:"failure"`
			Message string `json:"message"`
		} `json:"failing"`
	}
	waveView struct {
		Name    string         `json:"name"`
		Size    int            `json:"size"`
		Results map[string]int `json:"results"`
	}
	agentView struct {
		ID        string            `json:"id"`
		Labels    map[string]string `json:"labels"`
		Connected bool              `json:"connected"`
		Healthy   bool              `json:"healthy"`
		Rollout   string            `json:"rollout"`
		Wave      string            `json:"wave"`
		Result    string            `json:"result"`
		Failure   string            `json:"failure"`
		Assigned  string            `json:"assigned"`
		Delivery  string            `json:"delivery"`
		Status    string            `json:"status"`
		Error     string            `json:"error"`
	}
	revisionView struct {
		ID       string   `json:"id"`
		State    string   `json:"state"`
		Problems []string `json:"problems"`
	}
	list[T any] struct {
		Items []T `json:"items"`
	}
)

// short says in one line where a rollout stands, for messages.
func (r rolloutView) short() string {
	return fmt.Sprintf("%s %s (%s) wave %d %v target %.8s stable %.8s blocked %.8s disturbed %d/%d of %d",
		r.Phase, r.Hold, r.Reason, r.Wave, r.Waves, r.Target, r.Stable, r.Blocked, r.Disturbed, r.Budget, r.Agents)
}

func (s *server) rollout() (rolloutView, error) {
	var r rolloutView
	err := getJSON(s.http, "/api/v1/rollouts/"+rolloutName, &r)
	return r, err
}

func (s *server) agents() ([]agentView, error) {
	var l list[agentView]
	err := getJSON(s.http, "/api/v1/agents", &l)
	return l.Items, err
}

func (s *server) revisions() ([]revisionView, error) {
	var l list[revisionView]
	err := getJSON(s.http, "/api/v1/revisions", &l)
	return l.Items, err
}

func getJSON(addr, path string, into any) error {
	body, err := get(addr, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("decoding %s: %w", path, err)
	}
	return nil
}

// get fetches one page. Anything but 200 is an error that quotes the answer.
func get(addr, path string) ([]byte, error) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + addr + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %.300s", path, resp.Status, body)
	}
	return body, nil
}
