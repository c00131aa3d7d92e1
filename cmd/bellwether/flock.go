package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/app"
	"github.com/bellwether-opamp/bellwether/internal/sim"
	"github.com/spf13/cobra"
)

func newFlock() *cobra.Command {
	var cfg sim.FleetConfig
	var faults []string
	var tokenFile string
	cmd := &cobra.Command{
		Use:   "flock",
		Short: "Connect simulated agents over real OpAMP",
		Long: `Connect simulated agents over real OpAMP, until interrupted. They behave as the
OpAMP Supervisor does, and suffer as they are told:

  --fault RULE    [CONDITION[,CONDITION]:]FAULT[=DURATION]

  conditions      *  |  label=value  |  label~=part  |  contains(text of the config)
  faults          refuse       says FAILED at once
                  sick=10s     applies, and is unhealthy from then on
                  slow=30s     applies only then
                  flapping=5s  changes its health that often
                  offline=1m   disconnects when offered something, and comes back then
                  self-revert=5s   applies, then goes back by itself

  The first rule that matches counts.`,
		Example: `  bellwether flock --count 200
  bellwether flock --count 60 --fault 'ring=canary:sick=5s' --fault 'contains(carrier_pigeon):refuse'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, text := range faults {
				rule, err := sim.ParseFault(text)
				if err != nil {
					return &failure{code: exitUsage, err: fmt.Errorf("--fault %q: %w", text, err)}
				}
				cfg.Faults = append(cfg.Faults, rule)
			}
			if tokenFile != "" {
				token, err := os.ReadFile(tokenFile)
				if err != nil {
					return &failure{code: exitUsage, err: err}
				}
				cfg.Header = http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(token))}}
			}
			cfg.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			return runFlock(cmd, cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.URL, "url", "ws://"+app.DefaultListenOpAMP+"/v1/opamp", "OpAMP endpoint")
	f.IntVar(&cfg.Count, "count", 20, "agents")
	f.Uint64Var(&cfg.Seed, "seed", 1, "decides uids, labels and jitter")
	f.StringArrayVar(&faults, "fault", nil, "what goes wrong, and where (repeatable)")
	f.DurationVar(&cfg.ApplyTime, "apply-time", 200*time.Millisecond, "from offer to APPLIED")
	f.Float64Var(&cfg.CanaryShare, "canary-share", 0.1, "share of agents with the label ring=canary")
	f.IntVar(&cfg.ConnectRate, "connect-rate", 500, "first connections a second")
	f.DurationVar(&cfg.Heartbeat, "heartbeat", 30*time.Second, "pause between heartbeats")
	f.StringVar(&tokenFile, "token-file", "", "file with the agents' bearer token")
	return cmd
}

// runFlock runs the agents and says how they are whenever that has changed.
func runFlock(cmd *cobra.Command, cfg sim.FleetConfig) error {
	agents, err := sim.New(cfg)
	if err != nil {
		return &failure{code: exitUsage, err: err}
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- agents.Run(ctx) }()
	screen := newScreen(cmd.OutOrStdout())
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		n := agents.Counts()
		screen.show(fmt.Sprintf("%d agents: %d connected, %d healthy; configs: %d applied, %d applying, %d failed, %d none\n",
			n.Agents, n.Connected, n.Healthy, n.Applied, n.Applying, n.Failed, n.Unset))
		select {
		case err := <-done:
			if err == nil || errors.Is(err, context.Canceled) {
				return cmd.Context().Err()
			}
			return &failure{code: exitNo, err: err}
		case <-ticker.C:
		case <-ctx.Done():
			_ = <-done // it ended because it was told to
			return cmd.Context().Err()
		}
	}
}
