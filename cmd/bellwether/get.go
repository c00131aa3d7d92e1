package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/web"
	"github.com/spf13/cobra"
)

func newGet(conn *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get",
		Short: "List rollouts, agents or revisions",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var filter web.AgentFilter
	agents := newList(conn, "agents", "List agents: what each runs and what it should run",
		func(cmd *cobra.Command, c *web.Client) ([]web.Agent, error) { return c.Agents(cmd.Context(), filter) }, printAgents)
	agents.Flags().StringVar(&filter.Rollout, "rollout", "", "only agents of this rollout")
	agents.Flags().StringVar(&filter.State, "state", "", "only healthy, unhealthy, offline or unobservable ones")
	agents.Flags().StringVar(&filter.Result, "result", "", "only those with this result: Untouched, Deferred, InFlight, OK, Failed, Inconclusive")
	agents.Flags().StringVarP(&filter.Label, "label", "l", "", "only those with key=value")
	cmd.AddCommand(
		newList(conn, "rollouts", "List rollouts",
			func(cmd *cobra.Command, c *web.Client) ([]web.Rollout, error) { return c.Rollouts(cmd.Context()) }, printRollouts),
		agents,
		newList(conn, "revisions", "List the latest revisions: accepted, or rejected and why",
			func(cmd *cobra.Command, c *web.Client) ([]web.Revision, error) { return c.Revisions(cmd.Context()) }, printRevisions),
	)
	return cmd
}

// newList returns the command that lists one kind of thing.
func newList[T any](conn *connection, what, short string,
	fetch func(*cobra.Command, *web.Client) ([]T, error), show func(io.Writer, []T) error,
) *cobra.Command {
	cmd := &cobra.Command{
		Use: what, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := conn.client()
			if err != nil {
				return err
			}
			items, err := fetch(cmd, client)
			if err != nil {
				return conn.explain(cmd.Context(), err)
			}
			if conn.output == "json" {
				return printJSON(cmd.OutOrStdout(), items)
			}
			if len(items) == 0 {
				_, err = fmt.Fprintf(cmd.ErrOrStderr(), "no %s\n", what)
				return err
			}
			return show(cmd.OutOrStdout(), items)
		},
	}
	conn.flags(cmd)
	conn.outputFlag(cmd)
	return cmd
}

// table writes rows under a header, columns aligned.
func table(w io.Writer, header string, rows func(row func(cells ...any))) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(tw, header)
	rows(func(cells ...any) {
		for i, cell := range cells {
			if i > 0 {
				_, _ = fmt.Fprint(tw, "\t")
			}
			if cell == "" {
				cell = "-"
			}
			_, _ = fmt.Fprint(tw, cell)
		}
		_, _ = fmt.Fprintln(tw)
	})
	if flushed := tw.Flush(); err == nil {
		err = flushed
	}
	return err
}

func printRollouts(w io.Writer, rollouts []web.Rollout) error {
	return table(w, "NAME\tPHASE\tWAVE\tSETTLED\tFAILED\tAGENTS\tREVISION\tWHY", func(row func(...any)) {
		for _, r := range rollouts {
			row(r.Name, r.Phase, waveLabel(r), settled(r), failed(r), r.Agents, short(r.Revision), r.Reason)
		}
	})
}

func printAgents(w io.Writer, agents []web.Agent) error {
	return table(w, "AGENT\tHOST\tSTATE\tROLLOUT\tWAVE\tRESULT\tSYNC\tRUNS\tSEEN", func(row func(...any)) {
		for _, a := range agents {
			row(a.ID, a.Labels["host.name"], a.State, a.Rollout, a.Wave, resultLabel(a), a.Sync, runs(a), ago(a.LastSeen))
		}
	})
}

func printRevisions(w io.Writer, revisions []web.Revision) error {
	err := table(w, "REVISION\tSTATE\tSEEN\tAUTHOR\tSUBJECT", func(row func(...any)) {
		for _, r := range revisions {
			seen := ""
			if r.SeenAt != nil {
				seen = ago(*r.SeenAt)
			}
			row(short(r.ID), r.State, seen, r.Author, r.Subject)
		}
	})
	for _, r := range revisions {
		if len(r.Problems) == 0 {
			continue
		}
		_, _ = fmt.Fprintf(w, "\n%s %s:\n", short(r.ID), r.State)
		for _, p := range r.Problems {
			_, _ = fmt.Fprintln(w, "  "+p)
		}
	}
	return err
}

func waveLabel(r web.Rollout) string {
	if r.Wave >= len(r.Waves) {
		return ""
	}
	return fmt.Sprintf("%s %d/%d", r.Waves[r.Wave].Name, r.Wave+1, len(r.Waves))
}

func resultLabel(a web.Agent) string {
	if a.Failure != "" {
		return a.Result + "(" + a.Failure + ")"
	}
	return a.Result
}

// runs is what the agent says it runs, or tries, or refused.
func runs(a web.Agent) string {
	hash, attempt, again := strings.Cut(a.Delivery, "#")
	if hash == "" {
		return ""
	}
	out := hash[:min(len(hash), 12)]
	if again {
		out += "#" + attempt
	}
	if status := a.Status.String(); status != "applied" {
		out += " (" + status + ")"
	}
	return out
}

// short is a revision or a hash as people say it.
func short(id string) string {
	const n = 10
	if dir, ok := strings.CutPrefix(id, "dir:"); ok {
		return "dir:" + dir[:min(len(dir), n)]
	}
	return id[:min(len(id), n)]
}

func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(max(0, d).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
