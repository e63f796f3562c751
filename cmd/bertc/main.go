// Command bertc compiles RetrievaBERT checkpoints into Go packages, runs them and shows what
// happens on the way. It is a thin layer over internal/pipeline: every file here is one command.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bertc/bertc/internal/nearest"
	"github.com/bertc/bertc/internal/pipeline"
)

// exitError is the exit status of every failure but that of single records (exitFailed).
const exitError = 2

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends the process at once
	if err := root().ExecuteContext(ctx); err != nil {
		if ctx.Err() != nil && !errors.Is(err, context.Canceled) {
			err = context.Canceled // a terminal interrupts the processes that are waited for as well
		}
		if errors.Is(err, context.Canceled) {
			err = errors.New(strings.Replace(err.Error(), context.Canceled.Error(), "interrupted", 1))
		}
		fmt.Fprintf(os.Stderr, "bertc: %s\n", err)
		if errors.As(err, new(failedRecords)) {
			os.Exit(exitFailed)
		}
		os.Exit(exitError)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "bertc",
		Short: "Compile RetrievaBERT checkpoints into Go packages",
		Long: `bertc turns a RetrievaBERT checkpoint (config.json, *.safetensors, tokenizer.json)
into a Go package: assembly kernels, a straight-line program and a packed weight
file. The package needs nothing but the Go standard library.`,
		Example: `  bertc demo                                      # the model inside the binary, from end to end
  bertc compile --model ./retrieva-bert --out ./retrieva
  bertc fill-mask --package ./retrieva '日本の首都は<MASK|LLM-jp>です。'
  bertc inspect ./retrieva-bert`,
		Version:       fmt.Sprintf("%s, %s, %s/%s", pipeline.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	c.SetFlagErrorFunc(flagError)
	c.SetHelpCommand(helpCommand())
	c.CompletionOptions.HiddenDefaultCmd = true
	return group(c, compileCommand(), demoCommand(), fillMaskCommand(), runCommand(), evalCommand(), tokenizeCommand(),
		inspectCommand(), initCommand(), dumpCommand(), htmlCommand(), diffCommand(), calibrateCommand(), verifyCommand(), benchCommand(), tuneCommand(), explainCommand(), ptxCommand())
}

// group makes c the command of others: alone it prints its help.
func group(c *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		return unknownCommand(c, args[0])
	}
	c.AddCommand(commands...)
	return c
}

// helpCommand is "bertc help [command]".
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Help about a command",
		RunE: func(c *cobra.Command, args []string) error {
			found, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(found, rest[len(rest)-1])
			}
			return found.Help()
		},
	}
}

// unknownCommand names the nearest command.
func unknownCommand(c *cobra.Command, unknown string) error {
	var names []string
	for _, sub := range c.Commands() {
		names = append(names, sub.Name())
	}
	if name := nearest.Name(unknown, names); name != "" {
		return fmt.Errorf("unknown command %q (did you mean %s?)", unknown, name)
	}
	return fmt.Errorf("unknown command %q (see %s --help)", unknown, c.CommandPath())
}

// flagError adds the nearest flag to the message about an unknown one.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if name := nearest.Name(unknown.GetSpecifiedName(), names); name != "" {
		return fmt.Errorf("%w (did you mean --%s?)", err, name)
	}
	return fmt.Errorf("%w (see %s --help)", err, c.CommandPath())
}
