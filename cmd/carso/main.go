// Command carso is the kit's command line: flags over the packages, no logic of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"carsokit/internal/memory"
)

type command struct {
	name, what string
	run        func(ctx context.Context, args []string) error
}

func commands() []command {
	return []command{
		{"doctor", "say what is installed, found and missing", doctor},
		{"data", "get or verify a data set", dataCommand},
		{"train", "train a classifier or a purifier", trainCommand},
		{"export", "write a finished training's weights as files", export},
		{"eval", "evaluate a row and column of the main table, or continue", evalCommand},
		{"merge", "join the parts of evaluations, and say what is missing", merge},
		{"records", "list, show, export or unpack records", recordsCommand},
		{"table", "print a table from records", table},
		{"attack", "check whether attacks on a row can be believed; list the attacks", attackCommand},
		{"checkpoint", "inspect weight files", checkpoint},
		{"bench", "time operations beside PyTorch", benchCommand},
	}
}

func main() {
	memory.HugePages()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A graph that is being compiled, or an attack's step, ends first. Whoever does not want to wait interrupts again: then the system's default applies, and what is on disk
	// is whole at any instant.
	last := context.AfterFunc(ctx, func() {
		stop()
		fmt.Fprintln(os.Stderr, "\ncarso: stopping after what is under way; interrupt again to stop at once")
	})
	err := dispatch(ctx, os.Args[1:])
	last()
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "carso: interrupted; what was finished is saved, and the same command continues")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "carso:", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name == args[0] {
				return c.run(ctx, args[1:])
			}
		}
	}
	fmt.Fprintln(os.Stderr, "usage: carso COMMAND [flags]     carso COMMAND -h lists the flags")
	for _, c := range commands() {
		fmt.Fprintf(os.Stderr, "  %-12s %s\n", c.name, c.what)
	}
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" || args[0] == "-help" {
		return nil
	}
	return fmt.Errorf("no command %q", args[0])
}

// parse parses flags and refuses words that are left over.
func parse(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%s: unexpected argument %q; flags come first", fs.Name(), fs.Arg(0))
	}
	return nil
}
