# Two who are one, and Müller's card.
new_patient() { labora patient create --as vera --family "$1" --given "$2" --birth-date "$3" --sex female --json | pick 'it["id"]'; }
patient=$(labora patient create --as vera --family Kranz --given Ida --birth-date 1990-01-01 --identifier 'urn:card|C1' --json | pick 'it["id"]')
prior=$(new_patient Doppel Anna 1970-03-04) survivor=$(new_patient Doppel Ann 1970-03-04)
PATIENT() { echo "$patient"; }
PRIOR() { echo "$prior"; }
SURVIVOR() { echo "$survivor"; }
PROVIDER() { labora provider list --name arz --json | pick 'it[0]["id"]'; }
INTERVAL() { labora interval list --test VITD --json | pick 'it[-1]["id"]'; }
