package eval_test

import (
	"fmt"

	"carsokit/carso/eval"
	"carsokit/carso/paper"

	"github.com/janpfeifer/must"
)

// A protocol is data: what decides, and which attacks run on which output. The honest one attacks the decisions of peel through outputs whose
// gradients survive float32.
func ExampleFind() {
	scale := must.M1(paper.FindScale("small"))
	for _, row := range []string{"carso-paper", "carso-honest"} {
		p := must.M1(eval.Find(row, "rand", scale, 8./255))
		fmt.Println(row, "decides by", p.Decides)
		for _, s := range p.Stages {
			fmt.Println(" ", s.Attack.Name(), "on", s.Output)
		}
	}
	// Output:
	// carso-paper decides by peel-reference
	//   apgd-ce on peel-reference
	//   apgd-dlr on peel-reference
	// carso-honest decides by log-sum
	//   apgd-ce on log-sum
	//   apgd-ce on logit
	//   apgd-ce on peel-stable
	//   apgd-ce on classifier
	//   apgd-dlr on log-sum
}
