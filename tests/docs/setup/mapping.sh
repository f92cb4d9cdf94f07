labora test set HGB_NEW --as ada --reason 'of the page' --name 'Haemoglobin, new reagent' --unit g/dL --decimals 1 --specimen-type BLD
labora map export --format livd-xlsx --link chem-1 --output acme.xlsx
CHANGE() { labora map history --json | pick 'max(one["id"] if isinstance(one["id"], int) else one["number"] for one in it)'; }
