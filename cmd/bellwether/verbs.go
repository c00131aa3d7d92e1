package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newVerbs returns the commands that ask something of one rollout.
func newVerbs(conn *connection) []*cobra.Command {
	verbs := []struct{ verb, short, long string }{
		{"pause", "Hold a rollout: offer nothing new", "Work in flight may finish. `resume` ends the hold."},
		{"resume", "End a pause", "A rollout that a failure stopped needs `retry`, a new commit, or `rollback`."},
		{"promote", "End the bake of the current wave now", "Evidence, failures and the budget still count: no wave is skipped."},
		{"abort", "Stop a rollout where it is", "Everybody keeps what they have. Then `rollback` or `retry`."},
		{"rollback", "Go back to the last config that completed", "Touched agents go home within the budget; the target is blocked."},
		{"retry", "Try a failed target again", "A new attempt, from the canary on, judged afresh."},
	}
	cmds := make([]*cobra.Command, 0, len(verbs))
	for _, v := range verbs {
		cmds = append(cmds, newVerb(conn, v.verb, v.short, v.long))
	}
	return cmds
}

func newVerb(conn *connection, verb, short, long string) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   verb + " ROLLOUT",
		Short: short,
		Long:  short + ".\n\n" + long,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := conn.client()
			if err != nil {
				return err
			}
			seen, err := client.Rollout(cmd.Context(), args[0])
			if err != nil {
				return conn.explain(cmd.Context(), err)
			}
			after, err := client.Command(cmd.Context(), args[0], verb, seen.Target, whoami(), why)
			if err != nil {
				return conn.explain(cmd.Context(), err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", args[0], sentence(after))
			return err
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringVar(&why, "why", "", "reason, for the journal")
	return cmd
}
