labora test set HGB_NEW --as ada --reason 'of the page' --name 'Haemoglobin, new reagent' --unit g/dL --decimals 1 --specimen-type BLD
labora map export --format livd-xlsx --link chem-1 --output acme.xlsx
CHANGE() { labora map history --json | pick 'max(one["id"] if isinstance(one["id"], int) else one["number"] for one in it)'; }
printf 'link,code,test,unit\nchem-1,687,HGB_NEW,g/dL\n' >new.csv
cp -r "$(python -c 'import interface, pathlib; print(pathlib.Path(interface.__file__).parents[1])')/drivers/roche_cobas_c311" acme_x1
sed -i 's/^id = .*/id = "acme_x1"/' acme_x1/driver.toml
printf '%s\n' 'name = "default"' '[[rule]]' 'name = "women only"' 'require = [{ sex = ["female"] }]' >strict.toml
