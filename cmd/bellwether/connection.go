package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/user"
	"strings"

	"github.com/bellwether-opamp/bellwether/internal/web"
	"github.com/spf13/cobra"
)

// connection is how a command reaches a running server.
type connection struct {
	server    string
	tokenFile string
	output    string
}

const defaultServer = "http://127.0.0.1:8080"

// flags adds the connection's flags to a command.
func (c *connection) flags(cmd *cobra.Command) {
	server := os.Getenv("BELLWETHER_SERVER")
	if server == "" {
		server = defaultServer
	}
	cmd.Flags().StringVar(&c.server, "server", server, "address of the API (environment: BELLWETHER_SERVER)")
	cmd.Flags().StringVar(&c.tokenFile, "token-file", os.Getenv("BELLWETHER_TOKEN_FILE"), "file with the API's bearer token (environment: BELLWETHER_TOKEN_FILE)")
}

// outputFlag adds -o to a command that prints data.
func (c *connection) outputFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&c.output, "output", "o", "text", "text or json")
}

func (c *connection) client() (*web.Client, error) {
	if c.output != "" && c.output != "text" && c.output != "json" {
		return nil, &failure{code: exitUsage, err: fmt.Errorf("unknown output %q: want text or json", c.output)}
	}
	client := &web.Client{Server: c.server}
	if !strings.Contains(client.Server, "://") {
		client.Server = "http://" + client.Server
	}
	if c.tokenFile != "" {
		token, err := os.ReadFile(c.tokenFile)
		if err != nil {
			return nil, &failure{code: exitUsage, err: err}
		}
		client.Token = strings.TrimSpace(string(token))
	}
	return client, nil
}

// explain turns an error of the API into one with the right exit code and a hint.
func (c *connection) explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	if answer, ok := errors.AsType[*web.Error](err); ok {
		f := &failure{code: exitNo, err: err}
		switch answer.Status {
		case http.StatusUnauthorized:
			f.code, f.hint = exitUsage, "give the token with --token-file"
		case http.StatusBadRequest, http.StatusUnprocessableEntity:
			f.code = exitUsage
		}
		return f
	}
	return &failure{
		code: exitUsage, err: fmt.Errorf("ask %s: %w", c.server, err),
		hint: "is `bellwether serve` running there? say where with --server",
	}
}

// printJSON writes what the API said.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// whoami names the person for the journal, as far as the machine knows.
func whoami() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}
