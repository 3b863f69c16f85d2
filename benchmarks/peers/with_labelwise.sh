# labelwise, as its README has it.
labelwise compare train --out run --recipes probe,finetune --budget 3m
labelwise predict run test --unknown 0 --format csv --out answers.csv
