package main

import (
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/chat"
	"github.com/seed-b982eded/graft/train/data"
)

// turns are the values of --turns.
var turns = map[string]chat.Turns{"assistant": chat.AssistantTurns, "last": chat.LastTurn, "all": chat.AllTurns}

// chatFlags say how chats are read; train and eval share them.
func chatFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "turns", Value: "assistant", Usage: "what of a chat is learned: assistant (all that it says), last (its last message) or all"},
		&cli.StringFlag{Name: "chat-template", Usage: "render chats with the template `NAME` of the model, or with a Jinja file, in place of the model's default"},
	}
}

// checkChatFlags refuses what can be seen to be wrong without the data.
func checkChatFlags(c *cli.Context, task data.Task) error {
	name := c.String("turns")
	if _, ok := turns[name]; !ok {
		return formats.Usagef("--turns %s is not known (want one of %s)", formats.Quote(name), strings.Join(slices.Sorted(maps.Keys(turns)), ", "))
	}
	if flag := wantsChats(c); flag != "" && task != data.LanguageModel {
		return formats.Usagef("--%s is for chats, which --task %s has not", flag, c.String("task"))
	}
	return nil
}

// wantsChats returns a flag that has no effect without chats.
func wantsChats(c *cli.Context) string {
	switch {
	case c.String("chat-template") != "":
		return "chat-template"
	case c.String("turns") != "assistant":
		return "turns"
	}
	return ""
}

// chatTemplateFile returns the value of --chat-template where it is a file, else "".
func chatTemplateFile(c *cli.Context) string {
	path := c.String("chat-template")
	if info, err := os.Stat(path); path == "" || err != nil || info.IsDir() {
		return ""
	}
	return path
}

// readChats makes the encoder read chats as the flags say.
func (e *encoder) readChats(c *cli.Context, records []data.Record) error {
	if !slices.ContainsFunc(records, isChat) {
		if flag := wantsChats(c); flag != "" {
			return formats.Usagef("--%s is for chats, and %s has none", flag, formats.Quote(c.String("data")))
		}
		return nil
	}
	e.opts.Turns = turns[c.String("turns")]
	e.opts.ChatOptions.Now = time.Now()
	path := chatTemplateFile(c)
	if path == "" {
		var err error
		if e.opts.Templates, err = chat.Open(e.base); err != nil {
			return err
		}
		name := c.String("chat-template")
		if names := e.opts.Templates.Names(); name != "" && !slices.Contains(names, name) {
			return formats.Usagef("--chat-template %s is neither a file nor a template of the model (it has %s)", formats.Quote(name), strings.Join(names, ", "))
		}
		e.opts.ChatOptions.Template = name
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return &formats.Error{Class: formats.ErrInput, File: path, Err: formats.Cause(err)}
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, chat.MaxTemplateBytes+1))
	if err != nil {
		return &formats.Error{Class: formats.ErrInput, File: path, Err: formats.Cause(err)}
	}
	if len(text) > chat.MaxTemplateBytes {
		return formats.Rejectf(path, "", "too large for a chat template (want at most %d bytes)", chat.MaxTemplateBytes)
	}
	e.opts.Templates, err = chat.OpenSource(e.base, path, string(text))
	return err
}

func isChat(r data.Record) bool { return r.Chat != nil }
