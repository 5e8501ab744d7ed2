package eval

import (
	"encoding/json"
	"fmt"

	"carsokit/carso"
	"carsokit/carso/paper"
	"carsokit/carso/record"
)

// QuestionOf is the question that a record answers, with its number of images left to the scale: [NewJob] on the same data, weights and backend gives a
// job of the same key.
func QuestionOf(s record.Spec) (Question, error) {
	q := Question{Scenario: s.Scenario, Row: s.Row, Column: s.Column, Scale: s.Scale, Eps: s.Eps, Seed: s.Seed}
	var defence struct {
		Samples int               `json:"samples"`
		Decides carso.Aggregation `json:"decides"`
	}
	var attack struct {
		Decides string `json:"decides"`
	}
	if err := json.Unmarshal(s.Defence, &defence); err != nil {
		return q, fmt.Errorf("reading the defence of %s: %w", s.FileName(), err)
	}
	if len(s.Attack) > 0 {
		if err := json.Unmarshal(s.Attack, &attack); err != nil {
			return q, fmt.Errorf("reading the attack of %s: %w", s.FileName(), err)
		}
	}
	scale, err := paper.FindScale(s.Scale)
	if err != nil {
		return q, err
	}
	p, err := Find(s.Row, s.Column, scale, s.Eps)
	if err != nil {
		return q, err
	}
	q.Samples, q.Decides = defence.Samples, defence.Decides
	if attack.Decides != "" && attack.Decides != p.Decides {
		q.Decides = carso.Aggregation(attack.Decides)
	}
	return q, nil
}
