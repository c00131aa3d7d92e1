package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/web"
	"github.com/spf13/cobra"
)

func newDescribe(conn *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe",
		Short: "Say everything about one rollout or agent",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newOne(conn, "rollout NAME", "Say where a rollout stands, and why", func(cmd *cobra.Command, c *web.Client, name string) (web.Rollout, error) {
			return c.Rollout(cmd.Context(), name)
		}, describeRollout),
		newOne(conn, "agent UID", "Say what an agent runs, and what it should run", func(cmd *cobra.Command, c *web.Client, uid string) (web.Agent, error) {
			id, err := fleet.ParseAgentID(uid)
			if err != nil {
				return web.Agent{}, &failure{code: exitUsage, err: fmt.Errorf("%q: %w", uid, err)}
			}
			return c.Agent(cmd.Context(), id)
		}, describeAgent),
	)
	return cmd
}

// newOne returns the command that describes one thing.
func newOne[T any](conn *connection, use, summary string,
	fetch func(*cobra.Command, *web.Client, string) (T, error), show func(io.Writer, T),
) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: summary, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := conn.client()
			if err != nil {
				return err
			}
			item, err := fetch(cmd, client, args[0])
			if f, ok := err.(*failure); ok { //nolint:errorlint // our own, never wrapped
				return f
			}
			if err != nil {
				return conn.explain(cmd.Context(), err)
			}
			if conn.output == "json" {
				return printJSON(cmd.OutOrStdout(), item)
			}
			show(cmd.OutOrStdout(), item)
			return nil
		},
	}
	conn.flags(cmd)
	conn.outputFlag(cmd)
	return cmd
}

// field writes one line of a description; an empty value writes nothing.
func field(w io.Writer, name string, value any) {
	if value != "" {
		_, _ = fmt.Fprintf(w, "%-16s %v\n", name+":", value)
	}
}

func describeRollout(w io.Writer, r web.Rollout) {
	field(w, "Rollout", r.Name)
	field(w, "Phase", r.Phase)
	field(w, "Hold", r.Hold.String())
	field(w, "Why", r.Reason)
	field(w, "Target", contentLine(r.Target, r.Revision, r.Subject))
	if r.Attempt > 0 {
		field(w, "Attempt", r.Attempt+1)
	}
	field(w, "Stable", contentLine(r.Stable, r.StableRevision, ""))
	field(w, "Blocked", r.Blocked.Short())
	field(w, "Started", moment(r.StartedAt))
	field(w, "Last progress", moment(r.ProgressAt))
	field(w, "Disturbed", fmt.Sprintf("%d of at most %d", r.Disturbed, r.Budget))
	agents := "none"
	if r.Agents > 0 {
		agents = fmt.Sprintf("%d: %s; %s", r.Agents, counts(r.States), counts(r.Syncs))
	}
	field(w, "Agents", agents)
	if r.Orphaned {
		field(w, "Orphaned", "git no longer declares it; its agents keep what they have")
	}
	_, _ = fmt.Fprintln(w, "\nWaves:")
	for i, wave := range r.Waves {
		_, _ = fmt.Fprintf(w, "  %s %-12s %s\n", waveMark(r, i), wave.Name, waveLine(wave))
	}
	if len(r.Failing) > 0 {
		_, _ = fmt.Fprintln(w, "\nFailing agents:")
	}
	for _, f := range r.Failing {
		_, _ = fmt.Fprintf(w, "  %s  %s  %s  %s\n", f.Agent, f.Wave, f.Failure, f.Message)
	}
}

func contentLine(h fleet.Hash, revision, subject string) string {
	if h.IsZero() {
		return "none yet"
	}
	line := h.Short()
	if revision != "" {
		line += " (" + short(revision)
		if subject != "" {
			line += " " + subject
		}
		line += ")"
	}
	return line
}

func describeAgent(w io.Writer, a web.Agent) {
	field(w, "Agent", a.ID)
	field(w, "State", a.State)
	field(w, "Connected", fmt.Sprintf("%v since %s", a.Connected, moment(a.Since)))
	field(w, "Last seen", moment(a.LastSeen))
	field(w, "Health", a.HealthError)
	field(w, "Rollout", a.Rollout)
	field(w, "Wave", a.Wave)
	field(w, "Result", resultLabel(a))
	field(w, "Should run", a.Assigned)
	field(w, "Says", a.Delivery+" "+a.Status.String())
	field(w, "Error", a.Error)
	field(w, "Sync", a.Sync)
	_, _ = fmt.Fprintln(w, "\nLabels:")
	for _, key := range slices.Sorted(maps.Keys(a.Labels)) {
		_, _ = fmt.Fprintf(w, "  %s=%s\n", key, a.Labels[key])
	}
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime) + " (" + ago(t) + " ago)"
}

// counts writes the numbers above zero, by word.
func counts(m map[string]int) string {
	out := ""
	for _, word := range slices.Sorted(maps.Keys(m)) {
		if m[word] == 0 {
			continue
		}
		if out != "" {
			out += ", "
		}
		out += fmt.Sprintf("%d %s", m[word], word)
	}
	return out
}
