package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/web"
	"github.com/spf13/cobra"
)

func newWatch(conn *connection) *cobra.Command {
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "watch [ROLLOUT]",
		Short: "Follow one rollout, or all, until interrupted",
		Long:  "Follow one rollout, or all, until interrupted.\n\nOn a terminal the picture is redrawn in place; elsewhere one line is printed for each change.",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := conn.client()
			if err != nil {
				return err
			}
			fetch := func() ([]web.Rollout, error) { return client.Rollouts(cmd.Context()) }
			if len(args) == 1 {
				fetch = func() ([]web.Rollout, error) {
					r, err := client.Rollout(cmd.Context(), args[0])
					return []web.Rollout{r}, err
				}
			}
			return conn.watch(cmd, every, fetch)
		},
	}
	conn.flags(cmd)
	cmd.Flags().DurationVar(&every, "every", time.Second, "how often to ask")
	return cmd
}

func (c *connection) watch(cmd *cobra.Command, every time.Duration, fetch func() ([]web.Rollout, error)) error {
	out := cmd.OutOrStdout()
	screen, colours := newScreen(out), newPalette(out)
	ticker := time.NewTicker(max(every, 100*time.Millisecond))
	defer ticker.Stop()
	lines := map[string]string{}
	for known, away := false, false; ; {
		rollouts, err := fetch()
		switch _, answered := errors.AsType[*web.Error](err); {
		case err == nil:
			known, away = true, false
		case !known || answered || cmd.Context().Err() != nil:
			return c.explain(cmd.Context(), err)
		case !away: // it was there: most likely it restarts
			away = true
			_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "the server does not answer; trying again:", err)
		}
		var picture strings.Builder
		for _, r := range rollouts {
			if screen.live {
				picture.WriteString(colours.picture(r, screen.width))
				continue
			}
			line := fmt.Sprintf("%s %s wave %s settled %s failed %d", r.Name, sentence(r), waveLabel(r), settled(r), failed(r))
			if lines[r.Name] != line {
				lines[r.Name] = line
				_, _ = fmt.Fprintln(out, time.Now().Format(time.TimeOnly), line)
			}
		}
		if screen.live && !away {
			screen.show(picture.String())
		}
		select {
		case <-ticker.C:
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		}
	}
}
