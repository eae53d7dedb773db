// Command peers measures what people would pick instead of Salus, each by its own rules, and prints one line of
// JSON: immudb as a server that 64 clients write to over gRPC, Tessera as a log in this process.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

const valueBytes = 1024

// figures is what a measurement prints; its names end in their unit.
type figures map[string]any

func main() {
	// The first signal ends the work, and with it the server and the folder; a second one changes nothing.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, given []string) error {
	if len(given) == 0 {
		return errors.New("usage: peers immudb|tessera FLAGS")
	}
	flags := flag.NewFlagSet(given[0], flag.ExitOnError)
	measure, found := map[string]func(*flag.FlagSet) measurement{"immudb": immudb, "tessera": tesseraLog}[given[0]]
	if !found {
		return fmt.Errorf("unknown system %q", given[0])
	}
	work := measure(flags)
	_ = flags.Parse(given[1:])
	folder, err := os.MkdirTemp("", "salus-peers-")
	if err != nil {
		return err
	}
	told, err := work(ctx, folder)
	if err = errors.Join(err, os.RemoveAll(folder)); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(told)
}

// measurement writes into a folder of its own, and has stopped everything that it started when it returns.
type measurement func(ctx context.Context, folder string) (figures, error)

// versionOf says which version of a module this program was built with.
func versionOf(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				return dependency.Version
			}
		}
	}
	return "unknown"
}
