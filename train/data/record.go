package data

import "strconv"

// Origin says where an example came from.
type Origin struct {
	File string
	Line int // from 1
}

// String returns FILE:LINE, with the file as it was given.
func (o Origin) String() string { return o.File + ":" + strconv.Itoa(o.Line) }

// Record is one line of training data, before it is tokenised: either a text, or a
// prompt with its completion, and never both.
type Record struct {
	Origin
	Text               string
	Prompt, Completion string
}

// IsText tells the two forms apart; a record of the other form has a prompt and a
// completion.
func (r Record) IsText() bool { return r.Text != "" }
