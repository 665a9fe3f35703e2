"""What runs the guard on this machine, without an AWS account.

    aws.py      starts and stops the local AWS, builds and deploys the stack (demo, `make local`, tests)
    demo.py     `make demo`
    run.py      `make local`
    audit.py    `make audit`
    steps.py    steps with a running clock, and the programs they run
    emulator/   the local AWS: what wraps ministack
    rig/        what drives the functions' binaries, without the local AWS: faults, load, accounts, sweeps
"""
